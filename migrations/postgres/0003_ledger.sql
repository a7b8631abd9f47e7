-- The ledger: what every call consumed and cost. Times are Unix milliseconds, money is nano-dollars, tokens are counts.
-- Texts compare byte by byte (collate "C"), which is quicker than by language, and the same as in SQLite.
--
-- Partitioned by the month (UTC) of the call's arrival, so that old months go by dropping tables. Partitions are made by
-- the gateway, ahead of time and when a row needs one. A primary key must hold the partition's column; a call's arrival
-- never changes, so (at, id) says the same as id.

-- A row for each call. Columns are what is filtered or grouped by; the rest of the receipt is JSON that no query looks
-- into. `tags` is a JSON array, null when there are none.
create table requests (
    at        bigint not null,
    id        text collate "C" not null,
    project   text collate "C" not null,
    key_id    text collate "C" not null,
    model     text collate "C" not null,
    operation text collate "C" not null,
    outcome   text collate "C" not null,
    end_user  text collate "C",
    tags      text collate "C",
    workflow  text collate "C",
    session   text collate "C",
    step      text collate "C",
    detail    text not null,
    primary key (at, id)
) partition by range (at);

-- What a workflow or a session cost is asked for without a time. Calls that name none cost these indexes nothing.
create index requests_by_workflow on requests (workflow, at) where workflow is not null;
create index requests_by_session on requests (session, at) where session is not null;

-- A row for each dispatch to a provider. `at` is the arrival of its call; `sent_at` is when it was sent. `is_last` is 1 on
-- the last attempt of a call and 0 on the others, so that calls can be counted where their attempts are. `cost` is null
-- when the price is unknown.
create table attempts (
    at             bigint not null,
    id             text collate "C" not null,
    number         bigint not null,
    is_last        bigint not null,
    sent_at        bigint not null,
    target         text collate "C" not null,
    provider       text collate "C" not null,
    upstream_model text collate "C" not null,
    provider_key   bigint not null,
    outcome        text collate "C" not null,
    usage_source   text collate "C" not null,
    cost           bigint,
    reported_cost  bigint,
    input          bigint not null,
    cache_read     bigint not null,
    cache_write    bigint not null,
    cache_write_1h bigint not null,
    audio_input    bigint not null,
    image_input    bigint not null,
    output         bigint not null,
    reasoning      bigint not null,
    audio_output   bigint not null,
    image_output   bigint not null,
    searches       bigint not null,
    tool_calls     bigint not null,
    images         bigint not null,
    millis         bigint not null,
    characters     bigint not null,
    detail         text not null,
    primary key (at, id, number)
) partition by range (at);

-- Sums by hour (UTC) of the call's arrival, so that usage over long times is quick. Three tables of one shape: all calls;
-- a row for each tag of a call; calls that name an end user. So neither many tags nor many end users slow the first one
-- down. `facet` is the tag or the end user, and empty in the first. An attempt counts at its own target, a call at that
-- of its last attempt.
create table usage_hours (
    hour            bigint not null,
    facet           text collate "C" not null,
    project         text collate "C" not null,
    key_id          text collate "C" not null,
    model           text collate "C" not null,
    provider        text collate "C" not null,
    target          text collate "C" not null,
    calls           bigint not null,
    attempts        bigint not null,
    errors          bigint not null,
    failed_attempts bigint not null,
    unpriced        bigint not null,
    estimated       bigint not null,
    cost            bigint not null,
    reported_cost   bigint not null,
    input           bigint not null,
    cache_read      bigint not null,
    cache_write     bigint not null,
    cache_write_1h  bigint not null,
    audio_input     bigint not null,
    image_input     bigint not null,
    output          bigint not null,
    reasoning       bigint not null,
    audio_output    bigint not null,
    image_output    bigint not null,
    searches        bigint not null,
    tool_calls      bigint not null,
    images          bigint not null,
    millis          bigint not null,
    characters      bigint not null,
    primary key (hour, facet, project, key_id, model, provider, target)
) with (fillfactor = 80);

create table usage_hours_by_tag (
    hour            bigint not null,
    facet           text collate "C" not null,
    project         text collate "C" not null,
    key_id          text collate "C" not null,
    model           text collate "C" not null,
    provider        text collate "C" not null,
    target          text collate "C" not null,
    calls           bigint not null,
    attempts        bigint not null,
    errors          bigint not null,
    failed_attempts bigint not null,
    unpriced        bigint not null,
    estimated       bigint not null,
    cost            bigint not null,
    reported_cost   bigint not null,
    input           bigint not null,
    cache_read      bigint not null,
    cache_write     bigint not null,
    cache_write_1h  bigint not null,
    audio_input     bigint not null,
    image_input     bigint not null,
    output          bigint not null,
    reasoning       bigint not null,
    audio_output    bigint not null,
    image_output    bigint not null,
    searches        bigint not null,
    tool_calls      bigint not null,
    images          bigint not null,
    millis          bigint not null,
    characters      bigint not null,
    primary key (hour, facet, project, key_id, model, provider, target)
) with (fillfactor = 80);

create table usage_hours_by_user (
    hour            bigint not null,
    facet           text collate "C" not null,
    project         text collate "C" not null,
    key_id          text collate "C" not null,
    model           text collate "C" not null,
    provider        text collate "C" not null,
    target          text collate "C" not null,
    calls           bigint not null,
    attempts        bigint not null,
    errors          bigint not null,
    failed_attempts bigint not null,
    unpriced        bigint not null,
    estimated       bigint not null,
    cost            bigint not null,
    reported_cost   bigint not null,
    input           bigint not null,
    cache_read      bigint not null,
    cache_write     bigint not null,
    cache_write_1h  bigint not null,
    audio_input     bigint not null,
    image_input     bigint not null,
    output          bigint not null,
    reasoning       bigint not null,
    audio_output    bigint not null,
    image_output    bigint not null,
    searches        bigint not null,
    tool_calls      bigint not null,
    images          bigint not null,
    millis          bigint not null,
    characters      bigint not null,
    primary key (hour, facet, project, key_id, model, provider, target)
) partition by range (hour);
