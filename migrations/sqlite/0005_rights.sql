-- What a key may do beside models: operations by their names, and from which addresses. `*` is all, an empty list none.
alter table keys add column endpoints text not null default '["*"]';
alter table keys add column addresses text not null default '["*"]';
alter table keys add column max_tokens bigint;

-- The secret before the last rotation, which goes on working until then.
alter table keys add column old_hash text;
alter table keys add column old_hint text;
alter table keys add column old_until bigint;

create unique index keys_by_old_hash on keys (old_hash);

-- What all keys of a project together may do, and the number of the last change.
alter table projects add column models text not null default '["*"]';
alter table projects add column endpoints text not null default '["*"]';
alter table projects add column addresses text not null default '["*"]';
alter table projects add column version bigint not null default 0;

create index projects_by_version on projects (version);

insert into changes (topic, version) values ('projects', 0);

-- Where an administrator was, if anywhere but at the database.
alter table audit add column address text;
