-- API keys. A key itself is never stored, only its SHA-256 in hex. Rows are revoked, never deleted: other records name
-- them. Ids sort by their bytes, as they do in SQLite, whatever the database's language.
create table keys (
    id         text    collate "C" not null primary key,
    name       text    not null,
    hash       text    collate "C" not null unique check (length(hash) = 64),
    hint       text    not null,
    models     text    not null,
    enabled    boolean not null,
    expires_at bigint,
    created_at bigint  not null,
    revoked_at bigint,
    version    bigint  not null
);

create index keys_by_name on keys (name);
create index keys_by_hint on keys (hint);
create index keys_by_version on keys (version);

-- One counter per topic. A writer takes the next number in the transaction of its change and puts it on the row it
-- changed; so a reader that remembers the last number it saw can ask for just what is new.
create table changes (
    topic   text   collate "C" not null primary key,
    version bigint not null
);

insert into changes (topic, version) values ('keys', 0);
