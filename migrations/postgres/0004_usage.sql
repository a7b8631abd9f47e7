-- Tokens whose price is unknown, summed: whoever holds spending to a limit must be able to say what the unknown part
-- amounts to. Hours that are there already get their sums from the rows, as far back as rows are kept. A version that
-- does not know these columns leaves them as they are.

alter table usage_hours add column unpriced_input bigint not null default 0;
alter table usage_hours add column unpriced_output bigint not null default 0;

alter table usage_hours_by_tag add column unpriced_input bigint not null default 0;
alter table usage_hours_by_tag add column unpriced_output bigint not null default 0;

alter table usage_hours_by_user add column unpriced_input bigint not null default 0;
alter table usage_hours_by_user add column unpriced_output bigint not null default 0;

with unpriced as (
    select r.at / 3600000 * 3600000 as hour, '' as facet, r.project, r.key_id, r.model, a.provider, a.target,
           sum(a.input + a.cache_read + a.cache_write + a.cache_write_1h + a.audio_input + a.image_input) as input,
           sum(a.output + a.reasoning + a.audio_output + a.image_output) as output
    from requests r join attempts a on a.at = r.at and a.id = r.id
    where a.cost is null
    group by 1, 2, 3, 4, 5, 6, 7
)
update usage_hours as h set unpriced_input = u.input, unpriced_output = u.output from unpriced u
where h.hour = u.hour and h.facet = u.facet and h.project = u.project and h.key_id = u.key_id and h.model = u.model
  and h.provider = u.provider and h.target = u.target;

with unpriced as (
    select r.at / 3600000 * 3600000 as hour, t.value collate "C" as facet, r.project, r.key_id, r.model, a.provider, a.target,
           sum(a.input + a.cache_read + a.cache_write + a.cache_write_1h + a.audio_input + a.image_input) as input,
           sum(a.output + a.reasoning + a.audio_output + a.image_output) as output
    from requests r join attempts a on a.at = r.at and a.id = r.id cross join json_array_elements_text(r.tags::json) as t(value)
    where a.cost is null and r.tags is not null
    group by 1, 2, 3, 4, 5, 6, 7
)
update usage_hours_by_tag as h set unpriced_input = u.input, unpriced_output = u.output from unpriced u
where h.hour = u.hour and h.facet = u.facet and h.project = u.project and h.key_id = u.key_id and h.model = u.model
  and h.provider = u.provider and h.target = u.target;

with unpriced as (
    select r.at / 3600000 * 3600000 as hour, r.end_user as facet, r.project, r.key_id, r.model, a.provider, a.target,
           sum(a.input + a.cache_read + a.cache_write + a.cache_write_1h + a.audio_input + a.image_input) as input,
           sum(a.output + a.reasoning + a.audio_output + a.image_output) as output
    from requests r join attempts a on a.at = r.at and a.id = r.id
    where a.cost is null and r.end_user is not null
    group by 1, 2, 3, 4, 5, 6, 7
)
update usage_hours_by_user as h set unpriced_input = u.input, unpriced_output = u.output from unpriced u
where h.hour = u.hour and h.facet = u.facet and h.project = u.project and h.key_id = u.key_id and h.model = u.model
  and h.provider = u.provider and h.target = u.target;

-- Sums by how calls ended, and by workflow and step for the calls that name either; what is not named is empty. These are
-- about calls and not about their attempts, so they have no keys, providers or targets, and few rows.
create table usage_hours_by_outcome (
    hour            bigint not null,
    operation       text collate "C" not null,
    outcome         text collate "C" not null,
    project         text collate "C" not null,
    model           text collate "C" not null,
    calls           bigint not null,
    attempts        bigint not null,
    errors          bigint not null,
    failed_attempts bigint not null,
    unpriced        bigint not null,
    unpriced_input  bigint not null,
    unpriced_output bigint not null,
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
    primary key (hour, operation, outcome, project, model)
) with (fillfactor = 80);

create table usage_hours_by_workflow (
    hour            bigint not null,
    workflow        text collate "C" not null,
    step            text collate "C" not null,
    project         text collate "C" not null,
    model           text collate "C" not null,
    calls           bigint not null,
    attempts        bigint not null,
    errors          bigint not null,
    failed_attempts bigint not null,
    unpriced        bigint not null,
    unpriced_input  bigint not null,
    unpriced_output bigint not null,
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
    primary key (hour, workflow, step, project, model)
) with (fillfactor = 80);

insert into usage_hours_by_outcome
select r.at / 3600000 * 3600000, r.operation, r.outcome, r.project, r.model,
       sum(coalesce(a.is_last, 1)),
       count(a.id),
       sum(case when r.outcome in ('ok', 'client_cancel') then 0 else coalesce(a.is_last, 1) end),
       count(case when a.outcome not in ('ok', 'client_cancel') then 1 end),
       count(a.id) - count(a.cost),
       coalesce(sum(case when a.cost is null then a.input + a.cache_read + a.cache_write + a.cache_write_1h + a.audio_input + a.image_input end), 0),
       coalesce(sum(case when a.cost is null then a.output + a.reasoning + a.audio_output + a.image_output end), 0),
       count(case when a.usage_source in ('counted', 'estimated') then 1 end),
       coalesce(sum(a.cost), 0),
       coalesce(sum(a.reported_cost), 0),
       coalesce(sum(a.input), 0),
       coalesce(sum(a.cache_read), 0),
       coalesce(sum(a.cache_write), 0),
       coalesce(sum(a.cache_write_1h), 0),
       coalesce(sum(a.audio_input), 0),
       coalesce(sum(a.image_input), 0),
       coalesce(sum(a.output), 0),
       coalesce(sum(a.reasoning), 0),
       coalesce(sum(a.audio_output), 0),
       coalesce(sum(a.image_output), 0),
       coalesce(sum(a.searches), 0),
       coalesce(sum(a.tool_calls), 0),
       coalesce(sum(a.images), 0),
       coalesce(sum(a.millis), 0),
       coalesce(sum(a.characters), 0)
from requests r left join attempts a on a.at = r.at and a.id = r.id
group by 1, 2, 3, 4, 5;

insert into usage_hours_by_workflow
select r.at / 3600000 * 3600000, coalesce(r.workflow, ''), coalesce(r.step, ''), r.project, r.model,
       sum(coalesce(a.is_last, 1)),
       count(a.id),
       sum(case when r.outcome in ('ok', 'client_cancel') then 0 else coalesce(a.is_last, 1) end),
       count(case when a.outcome not in ('ok', 'client_cancel') then 1 end),
       count(a.id) - count(a.cost),
       coalesce(sum(case when a.cost is null then a.input + a.cache_read + a.cache_write + a.cache_write_1h + a.audio_input + a.image_input end), 0),
       coalesce(sum(case when a.cost is null then a.output + a.reasoning + a.audio_output + a.image_output end), 0),
       count(case when a.usage_source in ('counted', 'estimated') then 1 end),
       coalesce(sum(a.cost), 0),
       coalesce(sum(a.reported_cost), 0),
       coalesce(sum(a.input), 0),
       coalesce(sum(a.cache_read), 0),
       coalesce(sum(a.cache_write), 0),
       coalesce(sum(a.cache_write_1h), 0),
       coalesce(sum(a.audio_input), 0),
       coalesce(sum(a.image_input), 0),
       coalesce(sum(a.output), 0),
       coalesce(sum(a.reasoning), 0),
       coalesce(sum(a.audio_output), 0),
       coalesce(sum(a.image_output), 0),
       coalesce(sum(a.searches), 0),
       coalesce(sum(a.tool_calls), 0),
       coalesce(sum(a.images), 0),
       coalesce(sum(a.millis), 0),
       coalesce(sum(a.characters), 0)
from requests r left join attempts a on a.at = r.at and a.id = r.id
where r.workflow is not null or r.step is not null
group by 1, 2, 3, 4, 5;

-- The days (UTC) of end users, in each project: their hours are nearly as many as their calls.
create table usage_days_by_user (
    day             bigint not null,
    end_user        text collate "C" not null,
    project         text collate "C" not null,
    calls           bigint not null,
    attempts        bigint not null,
    errors          bigint not null,
    failed_attempts bigint not null,
    unpriced        bigint not null,
    unpriced_input  bigint not null,
    unpriced_output bigint not null,
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
    primary key (day, end_user, project)
) partition by range (day);

-- A month for each that there is by the hour.
do $$
declare
    month record;
begin
    for month in
        select replace(c.relname, 'usage_hours_by_user', 'usage_days_by_user') as name,
               pg_get_expr(c.relpartbound, c.oid) as bound
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = to_regclass('usage_hours_by_user')
    loop
        execute format('create table %I partition of usage_days_by_user %s', month.name, month.bound);
    end loop;
end $$;

insert into usage_days_by_user
select hour / 86400000 * 86400000, facet, project,
       sum(calls),
       sum(attempts),
       sum(errors),
       sum(failed_attempts),
       sum(unpriced),
       sum(unpriced_input),
       sum(unpriced_output),
       sum(estimated),
       sum(cost),
       sum(reported_cost),
       sum(input),
       sum(cache_read),
       sum(cache_write),
       sum(cache_write_1h),
       sum(audio_input),
       sum(image_input),
       sum(output),
       sum(reasoning),
       sum(audio_output),
       sum(image_output),
       sum(searches),
       sum(tool_calls),
       sum(images),
       sum(millis),
       sum(characters)
from usage_hours_by_user
group by 1, 2, 3;
