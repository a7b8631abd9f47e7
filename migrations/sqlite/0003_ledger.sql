-- The ledger: what every call consumed and cost. Times are Unix milliseconds, money is nano-dollars, tokens are counts.
-- Tables are stored in the order of their primary keys, and calls arrive in the order of theirs: writing appends, and a
-- range of time is one stretch of the file.

-- A row for each call. Columns are what is filtered or grouped by; the rest of the receipt is JSON that no query looks
-- into. `tags` is a JSON array, null when there are none.
create table requests (
    at        bigint not null,
    id        text not null,
    project   text not null,
    key_id    text not null,
    model     text not null,
    operation text not null,
    outcome   text not null,
    end_user  text,
    tags      text,
    workflow  text,
    session   text,
    step      text,
    detail    text not null,
    primary key (at, id)
) without rowid;

-- What a workflow or a session cost is asked for without a time. Calls that name none cost these indexes nothing.
create index requests_by_workflow on requests (workflow, at) where workflow is not null;
create index requests_by_session on requests (session, at) where session is not null;

-- A row for each dispatch to a provider. `at` is the arrival of its call; `sent_at` is when it was sent. `is_last` is 1 on
-- the last attempt of a call and 0 on the others, so that calls can be counted where their attempts are. `cost` is null
-- when the price is unknown.
create table attempts (
    at             bigint not null,
    id             text not null,
    number         bigint not null,
    is_last        bigint not null,
    sent_at        bigint not null,
    target         text not null,
    provider       text not null,
    upstream_model text not null,
    provider_key   bigint not null,
    outcome        text not null,
    usage_source   text not null,
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
) without rowid;

-- Sums by hour (UTC) of the call's arrival, so that usage over long times is quick. Three tables of one shape: all calls;
-- a row for each tag of a call; calls that name an end user. So neither many tags nor many end users slow the first one
-- down. `facet` is the tag or the end user, and empty in the first. An attempt counts at its own target, a call at that
-- of its last attempt.
create table usage_hours (
    hour            bigint not null,
    facet           text not null,
    project         text not null,
    key_id          text not null,
    model           text not null,
    provider        text not null,
    target          text not null,
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
) without rowid;

create table usage_hours_by_tag (
    hour            bigint not null,
    facet           text not null,
    project         text not null,
    key_id          text not null,
    model           text not null,
    provider        text not null,
    target          text not null,
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
) without rowid;

create table usage_hours_by_user (
    hour            bigint not null,
    facet           text not null,
    project         text not null,
    key_id          text not null,
    model           text not null,
    provider        text not null,
    target          text not null,
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
) without rowid;
