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
