-- Quotas that are made by API and command. What one says is JSON that no query looks into. A deleted one keeps its row, by
-- which other gateways learn of it.
create table quotas (
    id         text    collate "C" not null primary key,
    name       text    not null,
    owner_kind text    not null,
    owner_id   text    not null,
    spec       text    not null,
    enabled    boolean not null,
    created_at bigint  not null,
    deleted_at bigint,
    version    bigint  not null
);

create index quotas_by_owner on quotas (owner_kind, owner_id);
create index quotas_by_version on quotas (version);

insert into changes (topic, version) values ('quotas', 0);
