#!/usr/bin/env python3
"""Makes the price catalogue in config/prices from two public collections of price facts.

    pip download --no-deps litellm genai-prices -d /tmp/prices     # wheels, both under the MIT licence
    scripts/prices.py /tmp/prices 2026-11-20                       # writes config/prices/*.json and DIFFERENCES.md

The date is that of the wheels: lists that begin later are kept, but what holds on that day is what is compared.

Only facts are taken: names of models, rates, limits, capabilities, dates, addresses of pages. The wheels are read, never
imported: `model_prices_and_context_window_backup.json` of litellm as JSON, `genai_prices/data.py` by its syntax tree.

How the two become one catalogue:

- A model that one collection has is taken from it. What both have is compared; where they agree on all rates both know,
  the parts add up (one may know batch rates, the other dates or the price of searches).
- Where they differ in a rate, one of them is taken whole, so that no price list is mixed: as RULINGS says for prices that
  were looked up on the vendor's page, or else the one named for the vendor in VENDORS. Each difference is listed in
  DIFFERENCES.md.
- A rate of zero for everything is no price: one collection uses it for "not known". It is taken as free when both say so
  or the name says so (`:free`); otherwise the model is left out, and so has an unknown price. So is one whose
  rates are a slip of the unit (IMPLAUSIBLE).

The output is in a stable order, so that a refresh shows as a diff of what changed. Needs nothing but Python's library;
its test is `scripts/prices_test.py`.
"""

import ast
import copy
import json
import re
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "config" / "prices"

# Our vendor: the providers of litellm, what its names begin with, the provider of genai-prices, and whose figures are
# taken when both have some and no ruling says otherwise.
VENDORS = {
    "aihubmix": (["aihubmix"], "aihubmix/", None, "litellm"),
    "anthropic": (["anthropic"], "", "anthropic", "genai"),
    "azure": (["azure", "azure_text"], "azure/", "azure", "litellm"),
    "azure_ai": (["azure_ai"], "azure_ai/", None, "litellm"),
    "baseten": (["baseten"], "baseten/", "baseten", "genai"),
    "bedrock": (["bedrock", "bedrock_converse"], "bedrock/", "aws", "litellm"),
    "cerebras": (["cerebras"], "cerebras/", "cerebras", "genai"),
    "cloudflare": (["cloudflare"], "cloudflare/", "cloudflare", "genai"),
    "cohere": (["cohere", "cohere_chat"], "cohere/", "cohere", "genai"),
    "crusoe": (["crusoe"], "crusoe/", None, "litellm"),
    "dashscope": (["qwencloud"], "qwencloud/", None, "litellm"),
    "dashscope_cn": (["dashscope"], "dashscope/", None, "litellm"),
    "databricks": (["databricks"], "databricks/", "databricks", "litellm"),
    "deepgram": (["deepgram"], "deepgram/", None, "litellm"),
    "deepinfra": (["deepinfra"], "deepinfra/", None, "litellm"),
    "deepseek": (["deepseek"], "deepseek/", "deepseek", "litellm"),
    "digitalocean": (["gradient_ai"], "gradient_ai/", None, "litellm"),
    "fireworks": (["fireworks_ai", "fireworks_ai-embedding-models"], "fireworks_ai/", "fireworks", "genai"),
    "friendli": (["friendliai"], "friendliai/", None, "litellm"),
    "gemini": (["gemini"], "gemini/", "google", "litellm"),
    "gmi": (["gmi"], "gmi/", None, "litellm"),
    "groq": (["groq"], "groq/", "groq", "genai"),
    "huggingface": ([], "", "huggingface_*", "genai"),
    "hyperbolic": (["hyperbolic"], "hyperbolic/", None, "litellm"),
    "inception": (["inception"], "inception/", None, "litellm"),
    "meta": (["meta"], "meta/", "meta", "genai"),
    "minimax": (["minimax"], "minimax/", "minimax", "genai"),
    "mistral": (["mistral"], "mistral/", "mistral", "genai"),
    "moonshot": (["moonshot"], "moonshot/", "moonshotai", "genai"),
    "nebius": (["nebius"], "nebius/", None, "litellm"),
    "novita": (["novita"], "novita/", "novita", "genai"),
    "nscale": (["nscale"], "nscale/", None, "litellm"),
    "openai": (["openai", "text-completion-openai"], "", "openai", "genai"),
    "openrouter": ([], "", "openrouter", "genai"),
    "ovhcloud": (["ovhcloud"], "ovhcloud/", "ovhcloud", "genai"),
    "perplexity": (["perplexity"], "perplexity/", "perplexity", "genai"),
    "sambanova": (["sambanova"], "sambanova/", None, "litellm"),
    "scaleway": (["scaleway"], "scaleway/", None, "litellm"),
    "tencent": (["tencent"], "tencent/", None, "litellm"),
    "together": (["together_ai"], "together_ai/", "together", "litellm"),
    "vercel_ai_gateway": (["vercel_ai_gateway"], "vercel_ai_gateway/", None, "litellm"),
    "vertex": (["vertex_ai"], "vertex_ai/", None, "litellm"),
    "volcengine": (["volcengine"], "volcengine/", None, "litellm"),
    "voyage": (["voyage"], "voyage/", "voyageai", "genai"),
    "wandb": (["wandb"], "wandb/", None, "litellm"),
    "watsonx": (["watsonx"], "watsonx/", None, "litellm"),
    "xai": (["xai"], "xai/", "x-ai", "litellm"),
    "xiaomi_mimo": (["xiaomi_mimo"], "xiaomi_mimo/", None, "litellm"),
    "zai": (["zai"], "zai/", "zai", "genai"),
    "zhipu": (["bigmodel"], "bigmodel/", "zhipuai", "genai"),
}

# Prices that were looked up on the vendor's own page: (vendor, pattern of names, who is right, page and day).
RULINGS = [
    ("mistral", r"mistral-(large|medium)(-latest)?", "litellm", "the name means the newest model: docs.mistral.ai/models, 2026-11-20"),
    ("perplexity", r"sonar.*", "litellm", "the fee for the smallest search context, which is the default: docs.perplexity.ai, 2026-11-20"),
    ("xai", r"grok-code-fast.*", "litellm", "the name leads to grok-build-0.1: docs.x.ai/developers/pricing, 2026-11-20"),
]

# Dollars for a million tokens above which a rate is taken for a slip of the unit: the dearest model there was cost 600.
IMPLAUSIBLE = 1000

# Vendors whose long-context rates hold from the threshold on, not above it.
REACHED = {"xai": "https://docs.x.ai/developers/pricing"}
# Vendors that charge by a factor for processing in a region, for every model: looked up, as neither collection says it.
REGIONS = {"xai": {"us": {"times": 1.1}}}

ITEMS = [
    "input", "cache_read", "cache_write", "cache_write_1h", "audio_input", "image_input", "output", "reasoning",
    "audio_output", "image_output", "searches", "tool_calls", "image", "hour", "characters", "requests",
]
# What an absent rate falls back to, so that a rate equal to it need not be written.
OTHERWISE = {
    "cache_write_1h": "cache_write", "cache_read": "input", "cache_write": "input", "audio_input": "input",
    "image_input": "input", "reasoning": "output", "audio_output": "output", "image_output": "output",
}
FIELDS = ITEMS + [
    "free", "above", "marginal", "tiers", "batch", "regions", "hours", "later", "also", "mode", "context", "max_output",
    "can", "retires", "source",
]
DATED = re.compile(r"(-20\d\d-\d\d-\d\d|[-@]20\d{6}|-latest)$")

MODES = {
    "chat": "chat", "responses": "chat", "completion": "completion", "embedding": "embedding",
    "image_generation": "image", "image_edit": "image", "audio_transcription": "transcription",
    "audio_speech": "speech", "rerank": "rerank", "moderation": "moderation", "video_generation": "video",
    "realtime": "realtime", "ocr": "ocr", "search": "search",
}
CAPABILITIES = {
    "supports_function_calling": "tools", "supports_parallel_function_calling": "parallel_tools",
    "supports_vision": "vision", "supports_response_schema": "json_schema", "supports_reasoning": "reasoning",
    "supports_prompt_caching": "cache", "supports_pdf_input": "pdf", "supports_audio_input": "audio_input",
    "supports_audio_output": "audio_output", "supports_video_input": "video", "supports_web_search": "web_search",
    "supports_computer_use": "computer_use",
}
CAN = [
    "tools", "parallel_tools", "vision", "json_schema", "reasoning", "cache", "pdf", "audio_input", "audio_output",
    "video", "image_output", "web_search", "computer_use",
]

# The fields of litellm by what they charge for, in dollars for one unit, and the units that we quote.
PER_UNIT = {
    "input_cost_per_token": ("input", 1_000_000), "output_cost_per_token": ("output", 1_000_000),
    "cache_read_input_token_cost": ("cache_read", 1_000_000),
    "cache_creation_input_token_cost": ("cache_write", 1_000_000),
    "cache_creation_input_token_cost_above_1hr": ("cache_write_1h", 1_000_000),
    "input_cost_per_audio_token": ("audio_input", 1_000_000),
    "output_cost_per_audio_token": ("audio_output", 1_000_000),
    "output_cost_per_reasoning_token": ("reasoning", 1_000_000),
    "input_cost_per_image_token": ("image_input", 1_000_000),
    "output_cost_per_image_token": ("image_output", 1_000_000),
    "input_cost_per_character": ("characters", 1_000_000), "input_cost_per_query": ("searches", 1_000),
    "input_cost_per_request": ("requests", 1_000),
}
TIERS = {"flex": "flex", "priority": "priority", "ultrafast": "ultrafast", "balanced": "balanced"}
# The fields of genai-prices by what they charge for; they are quoted as ours are.
MTOK = {
    "input_mtok": "input", "cache_read_mtok": "cache_read", "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write", "cache_write_1h_mtok": "cache_write_1h", "input_audio_mtok": "audio_input",
    "input_image_mtok": "image_input", "output_mtok": "output", "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "audio_output", "output_image_mtok": "image_output", "web_searches_kcount": "searches",
    "storage_searches_kcount": "tool_calls", "audio_hours": "hour", "input_audio_hours": "hour",
    "input_mchars": "characters", "requests_kcount": "requests",
}


def dollars(value):
    """A rate as an exact number with at most nine decimals; binary noise beyond twelve digits is not a price."""
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if number:
        number = round(number, 12 - number.adjusted() - 1)
    return number.quantize(Decimal("0.000000001"))


# ---- litellm


def from_litellm(prices):
    """The entries of each of our vendors: {vendor: {model: entry}}."""
    vendors = {provider: vendor for vendor, (providers, *_) in VENDORS.items() for provider in providers}
    found = {vendor: {} for vendor in VENDORS}
    for name, facts in prices.items():
        provider = facts.get("litellm_provider") or ""
        vendor = "vertex" if provider.startswith("vertex_ai") else vendors.get(provider)
        if vendor is None or name == "sample_spec" or name.startswith("ft:") or is_class(name):
            continue
        prefix = VENDORS[vendor][1]
        model = name.removeprefix(prefix)
        # Prices by the size or number of steps of an image stand under names that no request has.
        if "/" in model and re.match(r"(\d+-x-\d+|(low|medium|high|standard|hd|auto)/|max-x-max)", model):
            continue
        entry = litellm_entry(vendor, facts)
        if entry and (model not in found[vendor] or name.startswith(prefix)):
            found[vendor][model] = entry
    return {vendor: split_regions(vendor, models) for vendor, models in found.items()}


def is_class(name):
    """Whether a name stands for models of a size rather than for a model: `together-ai-41.1b-80b`."""
    return bool(re.match(r"(together-ai-|fireworks-ai-)", name))


def litellm_entry(vendor, facts):
    base, above, tiers, batch = {}, {}, {}, {"rates": {}, "above": {}}
    for field, value in facts.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        for item, per, threshold, tier in litellm_field(field):
            rate = dollars(Decimal(repr(value)) * per)
            if tier is None:
                (above.setdefault(threshold, {}) if threshold else base)[item] = rate
            else:
                card = batch if tier == "batch" else tiers.setdefault(tier, {"rates": {}, "above": {}})
                (card["above"].setdefault(threshold, {}) if threshold else card["rates"])[item] = rate
    base.update(litellm_pieces(vendor, facts, base))
    for low in facts.get("tiered_pricing") or []:
        start = int(low["range"][0])
        rates = {
            item: dollars(Decimal(repr(value)) * per)
            for field, value in low.items() if field != "range" and isinstance(value, (int, float))
            for item, per, threshold, tier in litellm_field(field) if not threshold and not tier
        }
        (above.setdefault(start, {}) if start else base).update(rates)
    if not base:
        return None
    entry = dict(base)
    put_steps(entry, above, base)
    multipliers = {k: v for k, v in (facts.get("provider_specific_entry") or {}).items() if isinstance(v, (int, float))}
    for tier, card in tiers.items():
        put_card(entry.setdefault("tiers", {}), tier, card, base)
    if "fast" in multipliers:
        entry.setdefault("tiers", {}).setdefault("fast", {"times": dollars(multipliers["fast"])})
    put_card(entry, "batch", batch, base)
    regions = {"us": multipliers.get("us")}
    for region in ("us", "eu"):
        regions[region] = facts.get(f"regional_processing_uplift_multiplier_{region}", regions.get(region))
    regions["regional"] = facts.get("regional_endpoint_uplift_multiplier")
    for region, factor in regions.items():
        if factor and factor != 1:
            entry.setdefault("regions", {})[region] = {"times": dollars(factor)}
    if off_peak := facts.get("off_peak_pricing"):
        entry["hours"] = [litellm_hours(off_peak)]
    entry.update(litellm_facts(facts))
    return entry


def litellm_field(field):
    """What a field charges for: (item, per, threshold, tier), or nothing when it is none of ours."""
    tier = None
    for suffix, name in [("_batches", "batch"), *((f"_{tier}", name) for tier, name in TIERS.items())]:
        if field.endswith(suffix):
            field, tier = field.removesuffix(suffix), name
    threshold = 0
    if match := re.fullmatch(r"(.*)_above_(\d+)k_tokens", field):
        field, threshold = match[1], int(match[2]) * 1000
    if field == "input_cost_per_token_cache_hit":
        field = "cache_read_input_token_cost"
    if field in PER_UNIT:
        yield (*PER_UNIT[field], threshold, tier)


def litellm_pieces(vendor, facts, base):
    """Rates that depend on more than one field."""
    pieces = {}
    mode = facts.get("mode")
    if search := facts.get("search_context_cost_per_query"):
        # Perplexity charges for the request, with the smallest context unless one asks for more.
        item, size = ("requests", "low") if vendor == "perplexity" else ("searches", "medium")
        value = search.get(f"search_context_size_{size}")
        if value:
            pieces[item] = dollars(Decimal(repr(value)) * 1000)
    image = facts.get("output_cost_per_image") or (facts.get("input_cost_per_image") if mode == "image_generation" else 0)
    if image and mode in ("image_generation", "image_edit") and not base.get("image_output") and not base.get("output"):
        pieces["image"] = dollars(image)
    second = facts.get("input_cost_per_second") or facts.get("output_cost_per_second")
    if second and mode in ("audio_transcription", "audio_speech", "video_generation", "realtime") and not base.get("output"):
        notes = facts.get("metadata") or {}
        if minute := notes.get("original_pricing_per_minute"):
            pieces["hour"] = dollars(Decimal(repr(minute)) * 60)
        elif hour := notes.get("original_pricing_per_hour"):
            pieces["hour"] = dollars(hour)
        else:
            # Seconds are quoted rounded; hours are what vendors publish, to a hundredth of a cent.
            pieces["hour"] = dollars((Decimal(repr(second)) * 3600).quantize(Decimal("0.0001")))
    return pieces


def litellm_hours(off_peak):
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    when = []
    for window in off_peak["windows"]:
        first, last = min(window["weekdays"]), max(window["weekdays"])
        assert window["weekdays"] == list(range(first, last + 1)), window
        hours = window["hours_utc"]
        for span in [hours] if isinstance(hours, str) else hours:
            start, end = span.split("-")
            when.append(f"{days[first - 1]}-{days[last - 1]} {start}-{'24:00' if end == '00:00' else end}")
    rates = {
        item: dollars(Decimal(repr(value)) * per)
        for field, value in off_peak.items() if field != "windows" for item, per, _, _ in litellm_field(field)
    }
    return {"when": when, **rates}


def litellm_facts(facts):
    found = {}
    if mode := MODES.get(facts.get("mode")):
        found["mode"] = mode
    for field, name in [("max_input_tokens", "context"), ("max_output_tokens", "max_output")]:
        if isinstance(facts.get(field), (int, float)) and facts[field] > 0:
            found[name] = int(facts[field])
    can = {name for field, name in CAPABILITIES.items() if facts.get(field) is True}
    if "image" in (facts.get("supported_output_modalities") or []):
        can.add("image_output")
    if can:
        found["can"] = [name for name in CAN if name in can]
    if re.fullmatch(r"20\d\d-\d\d-\d\d", str(facts.get("deprecation_date", ""))):
        found["retires"] = facts["deprecation_date"]
    if str(facts.get("source", "")).startswith("https://"):
        found["source"] = facts["source"].split("?")[0]
    return found


def split_regions(vendor, models):
    """Azure's `eu/gpt-4o` becomes a region of `gpt-4o`; a region's price without the plain one stays a name."""
    if vendor != "azure":
        return models
    merged = {name: entry for name, entry in models.items() if not re.match(r"(eu|us|global|global-standard)/", name)}
    for name, entry in models.items():
        region, _, model = name.partition("/")
        if name in merged:
            continue
        if region.startswith("global") or model not in merged:
            merged.setdefault(model if region.startswith("global") else name, entry)
            continue
        if card := difference(merged[model], entry):
            merged[model].setdefault("regions", {})[region] = card
    return merged


def difference(usual, regional):
    """What a region changes: a factor where all token rates have the same one, else its rates with their steps."""
    one, other = rates_of(usual), rates_of(regional)
    if one == other:
        return None
    tokens = [item for item in one if item in other and item not in ("searches", "tool_calls", "image", "hour") and one[item]]
    factors = {(other[item] / one[item]).quantize(Decimal("0.0001")) for item in tokens}
    if len(factors) == 1 and all(other.get(item) == one[item] for item in one if item not in tokens and item in other):
        factor = factors.pop()
        return {"times": factor} if factor != 1 else None
    return {**other, **({"above": regional["above"]} if "above" in regional else {})}


# ---- genai-prices


def from_genai(tree):
    """The entries of each provider: {provider: {model: entry}}, with the other names in `also`."""
    found = {}
    for provider in tree:
        models = found.setdefault(provider["id"], {})
        ids = {model["id"] for model in provider["models"]}
        for model in provider["models"]:
            entry = genai_entry(model)
            if entry:
                names = [name for name in genai_names(model.get("match")) if name not in ids]
                if names:
                    entry["also"] = sorted(set(names))
                models[model["id"]] = entry
    joined = {}
    for provider, models in found.items():
        if provider.startswith("huggingface_"):
            host = provider.removeprefix("huggingface_")
            for name, entry in models.items():
                entry = dict(entry)
                entry.pop("also", None)
                joined[f"{name}:{host}"] = entry
    found["huggingface_*"] = joined
    return found


def genai_names(clause):
    """The names that a clause takes as they are; patterns are left alone, as they may take another model's."""
    if not clause:
        return []
    if clause["_"] == "ClauseEquals":
        return [clause["equals"]]
    if clause["_"] == "ClauseOr":
        return [name for part in clause["or_"] for name in genai_names(part)]
    return []


def genai_entry(model):
    prices = model.get("prices") or []
    segments = prices if isinstance(prices, list) else [{"prices": prices}]
    lists, hours = [], []
    for segment in segments:
        constraint = segment.get("constraint")
        rates, above = genai_rates(segment["prices"])
        if constraint and constraint["_"] == "TimeOfDateConstraint":
            hours.append({"when": genai_windows(constraint), **rates})
        else:
            lists.append((constraint["start_date"] if constraint else None, rates, above))
    lists = [(day, rates, above) for day, rates, above in lists if rates]
    if not lists:
        return None
    lists.sort(key=lambda item: str(item[0] or ""))
    made = []
    for day, rates, above in lists:
        part = {"from": day, **rates} if day else dict(rates)
        put_steps(part, above, rates)
        made.append(part)
    if hours:
        made[-1]["hours"] = merge_hours(hours)
    for at, (part, (_, rates, _)) in enumerate(zip(made, lists)):
        end = lists[at + 1][0] if at + 1 < len(lists) else "9999"
        put_variants(part, rates, model.get("price_variants") or [], end)
    first = made[0]
    entry = {"later": made} if "from" in first else {**first, **({"later": made[1:]} if len(made) > 1 else {})}
    if model.get("context_window"):
        entry["context"] = model["context_window"]
    return entry


def put_variants(part, rates, variants, end):
    """Adds what holds in batches and tiers to the list that holds until `end`: of each, the last that began before it."""
    began = lambda variant: (variant.get("constraint") or {}).get("start_date", "")
    for variant in sorted((variant for variant in variants if began(variant) < end), key=began):
        partial, above = genai_rates(variant["prices"])
        card = {"rates": partial, "above": above}
        match variant["when"]:
            case {"processing": "batch"}:
                put_card(part, "batch", card, rates)
            case {"service_tier": tier} if tier != "default" and partial:
                put_card(part.setdefault("tiers", {}), tier, card, rates)
            case {"speed": "fast"}:
                put_card(part.setdefault("tiers", {}), "fast", card, rates)


def genai_rates(price):
    rates, above = {}, {}
    for field, item in MTOK.items():
        value = price.get(field)
        if isinstance(value, dict):
            rates[item] = dollars(value["base"])
            for tier in value["tiers"]:
                above.setdefault(tier["start"], {})[item] = dollars(tier["price"])
        elif value is not None:
            rates[item] = dollars(value)
    return rates, above


def genai_windows(constraint):
    start, end = constraint["start_time"], constraint["end_time"]
    if end == "00:00":
        end = "24:00"
    return [f"{start}-{end}"] if start < end else [f"{start}-24:00", f"00:00-{end}"]


def merge_hours(hours):
    merged = []
    for part in hours:
        rates = {item: rate for item, rate in part.items() if item != "when"}
        same = next((known for known in merged if {k: v for k, v in known.items() if k != "when"} == rates), None)
        if same:
            same["when"] += part["when"]
        else:
            merged.append(part)
    return merged


def read_python(source):
    """The list of providers in the source of `data.py`, from its syntax tree: calls become dicts with their name in `_`."""
    def value(node):
        match node:
            case ast.Constant():
                return node.value
            case ast.List():
                return [value(item) for item in node.elts]
            case ast.Dict():
                return {value(key): value(item) for key, item in zip(node.keys, node.values)}
            case ast.UnaryOp(op=ast.USub()):
                return -value(node.operand)
            case ast.Call(func=ast.Name(id="Decimal")):
                return Decimal(value(node.args[0]))
            case ast.Call(func=ast.Attribute(attr="date")):
                return "-".join(f"{value(part):02}" for part in node.args)
            case ast.Call(func=ast.Attribute(attr="time")):
                return "{:02}:{:02}".format(*(value(part) for part in node.args[:2]))
            case ast.Call(func=ast.Name(id=name)):
                return {"_": name, **{word.arg: value(word.value) for word in node.keywords}}
            case _:
                return None

    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "providers":
            return value(node.value)
    raise ValueError("there is no list of providers in data.py")


# ---- both


def put_steps(entry, above, base):
    """Adds the thresholds. A step says only what changes there."""
    steps, now = [], dict(base)
    for tokens in sorted(above):
        rates = {item: rate for item, rate in above[tokens].items() if rate != now.get(item)}
        if rates and tokens > 0:
            steps.append({"tokens": tokens, **rates})
            now.update(rates)
    if steps:
        entry["above"] = steps


def put_card(into, name, card, base):
    """Adds the rates of a tier or of batches, when they are whole: half of a list would be filled up with usual rates.

    A rate equal to what it would fall back to anyway stays: it is a fact.
    """
    made = dict(card["rates"])
    if made and all(item in made for item in ("input", "output") if base.get(item)):
        put_steps(made, card["above"], made)
        into[name] = made


def in_force(entry, day):
    """Which price list of an entry holds on a day: its place in `later`, -1 for the one beside it; and the list."""
    later = entry.get("later", [])
    at = max((at for at, part in enumerate(later) if part["from"] <= day), default=-1)
    return at, later[at] if at >= 0 else entry


def rates_of(part):
    return {item: part[item] for item in ITEMS if item in part}


def is_zero(entry):
    parts = [entry, *entry.get("later", [])]
    return all(not rate for part in parts for item, rate in rates_of(part).items())


def combine(vendor, litellm, genai, day):
    """One vendor's entries from both collections, and the differences between them."""
    names = {name: model for model, entry in genai.items() for name in [model, *entry.get("also", [])]}
    made, differences, used = {}, [], set()
    for model in sorted(litellm):
        ours = litellm[model]
        other = names.get(model)
        if other is None:
            made[model] = ours
            continue
        theirs = genai[other]
        known, told = rates_of(ours), rates_of(in_force(theirs, day)[1])
        differing = {item for item in known if item in told and known[item] != told[item]}
        differing -= {item for item in differing if item in ("searches", "hour") and close(known[item], told[item])}
        taken = "both"
        if differing:
            taken, why = ruling(vendor, model)
            differences.append((model, {item: (known[item], told[item]) for item in sorted(differing, key=ITEMS.index)}, taken, why))
        if other not in used or model == other:
            used.add(other)
        made[model] = join(ours, theirs, taken, day)
    for model, entry in genai.items():
        if model not in made:
            entry = dict(entry)
            made[model] = entry
        if "also" in genai[model]:
            free = [name for name in genai[model]["also"] if name not in made]
            made[model] = {**made[model], "also": free} if free else {k: v for k, v in made[model].items() if k != "also"}
    return made, differences


def close(one, other):
    """Whether two rates are the same but for the rounding of a rate for a second."""
    return abs(one - other) <= max(one, other) / 200


def ruling(vendor, model):
    for of, pattern, taken, why in RULINGS:
        if of == vendor and re.fullmatch(pattern, model):
            return taken, why
    return VENDORS[vendor][3], "the source preferred for this vendor"


def join(ours, theirs, taken, day):
    """An entry from litellm's and genai's: the price lists of the one that is taken, completed by the other's facts."""
    facts = {field: ours[field] for field in ("mode", "context", "max_output", "can", "retires", "source") if field in ours}
    facts.setdefault("context", theirs.get("context"))
    facts = {field: value for field, value in facts.items() if value}
    if taken == "litellm":
        return {**ours, **facts}
    lists = copy.deepcopy({field: value for field, value in theirs.items() if field not in ("context", "also")})
    _, now = in_force(lists, day)
    if taken == "both":
        # They agree, so what only one of them knows can stand beside the rest of the list that holds now.
        for field in [*ITEMS, "above", "batch", "regions", "hours"]:
            if field in ours:
                now.setdefault(field, ours[field])
        if "tiers" in ours:
            now["tiers"] = {**ours["tiers"], **now.get("tiers", {})}
    elif all("times" in card for card in ours.get("regions", {}).values()) and "regions" in ours:
        now.setdefault("regions", ours["regions"])
    return {**lists, **facts}


def tidy(vendor, model, entry, both_zero):
    """The entry as it is written; nothing when it says no price."""
    entry = copy.deepcopy({field: entry[field] for field in FIELDS if field in entry})
    for part in [entry, *entry.get("later", [])]:
        drop_repeated(part)
        if vendor in REACHED:
            for card in [part, *part.get("tiers", {}).values(), part.get("batch", {})]:
                for step in card.get("above", []):
                    step["tokens"] -= step["tokens"] % 1000 == 0
        if vendor in REGIONS and any(item in part for item in ("input", "output")):
            part.setdefault("regions", REGIONS[vendor])
    if any(rate > IMPLAUSIBLE for item, rate in rates_of(entry).items() if item in ("input", "output")):
        return None
    if is_zero(entry):
        if model.endswith(":free") or both_zero:
            facts = {field: entry[field] for field in FIELDS[FIELDS.index("also"):] if field in entry}
            return {"free": True, **facts}
        return None
    return entry


def drop_repeated(part):
    """Leaves out rates that are what their absence means, where no card or step could change that meaning."""
    # Nobody gives cache writes away: a zero says that there is no surcharge, or nothing.
    for card in [part, *part.get("tiers", {}).values(), part.get("batch", {}), *part.get("above", [])]:
        for item in ("cache_write", "cache_write_1h"):
            if item in card and not card[item] and part.get("input"):
                del card[item]
    if any(field in part for field in ("above", "tiers", "batch", "hours")):
        # Reasoning tokens cost what text does; written out, the usual rate would hide a tier's.
        for item in ("reasoning", "image_input", "audio_input"):
            if item in part and part[item] == part.get(OTHERWISE[item]) and not elsewhere(part, item):
                del part[item]
        return
    for item, other in OTHERWISE.items():
        if item in part and part[item] == part.get(other):
            del part[item]


def elsewhere(part, item):
    cards = [*part.get("tiers", {}).values(), part.get("batch", {}), *part.get("above", []), *part.get("hours", [])]
    return any(item in card for card in cards)


def fold(models):
    """Snapshots that cost and can what the plain name does become other names of it."""
    folded = dict(models)
    for model in sorted(models):
        plain = DATED.sub("", model)
        if plain == model or plain not in folded or model not in folded:
            continue
        same = lambda entry: {k: v for k, v in entry.items() if k not in ("also", "source", "retires", "can", "context", "max_output", "later")}
        if same(folded[model]) == same(folded[plain]) and "later" not in folded[model]:
            also = {*folded[plain].get("also", []), model, *folded[model].get("also", [])}
            folded[plain] = {**folded[plain], "also": sorted(also)}
            del folded[model]
    # A name belongs to one entry.
    seen = set(folded)
    for model in sorted(folded):
        also = [name for name in folded[model].get("also", []) if name not in seen]
        seen.update(also)
        folded[model] = {k: v for k, v in {**folded[model], "also": also}.items() if k != "also" or v}
    return folded


def catalogue(litellm, genai, day):
    """{vendor: {model: entry}} and {vendor: differences}."""
    ours, theirs = from_litellm(litellm), from_genai(genai)
    made, differences = {}, {}
    for vendor, (_, _, provider, _) in VENDORS.items():
        here, there = ours[vendor], theirs.get(provider, {})
        if vendor == "gemini":
            there = {name: entry for name, entry in there.items() if name.startswith(("gemini", "gemma"))}
        models, differing = combine(vendor, here, there, day)
        names = {name for model, entry in there.items() for name in [model, *entry.get("also", [])]}
        final = {}
        for model, entry in models.items():
            both_zero = model in here and model in names and is_zero(here[model])
            entry = tidy(vendor, model, entry, both_zero)
            if entry:
                final[model] = {field: entry[field] for field in FIELDS if field in entry}
        made[vendor], differences[vendor] = fold(final), differing
    return {vendor: models for vendor, models in made.items() if models}, differences


# ---- writing


def number(value):
    """A decimal as JSON has it, without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def compact(value):
    match value:
        case Decimal():
            return number(value)
        case dict():
            order = {field: at for at, field in enumerate(["tokens", "from", "when", "times", *FIELDS])}
            keys = sorted(value, key=lambda key: (order.get(key, -1), key))
            return "{" + ", ".join(f"{json.dumps(key)}: {compact(value[key])}" for key in keys) + "}"
        case list():
            return "[" + ", ".join(compact(item) for item in value) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def render(vendor, models):
    """A file: a line for the rates, one for each thing that changes them, one for the facts."""
    blocks = []
    for model in sorted(models):
        entry = models[model]
        rates = ", ".join(f'"{item}": {number(entry[item])}' for item in ITEMS if item in entry)
        lines = [rates] if rates else []
        for field in ("free", "above", "tiers", "batch", "regions", "hours", "later", "also"):
            if field in entry:
                lines.append(f'"{field}": {compact(entry[field])}')
        facts = [f'"{field}": {compact(entry[field])}' for field in ("mode", "context", "max_output") if field in entry]
        if facts:
            lines.append(", ".join(facts))
        for field in ("can", "retires", "source"):
            if field in entry:
                lines.append(f'"{field}": {compact(entry[field])}')
        blocks.append(f"  {json.dumps(model)}: {{\n    " + ",\n    ".join(lines) + "\n  }")
    return f'{{"{vendor}": {{\n' + ",\n".join(blocks) + "\n}}\n"


def report(made, differences, versions, day):
    total = sum(len(models) for models in made.values())
    count = sum(len(found) for found in differences.values())
    lines = [
        "# Where the sources of the price catalogue differ", "",
        f"The catalogue holds {total} models of {len(made)} vendors. It is made by `scripts/prices.py` from two collections of",
        f"public price facts, both under the MIT licence: {versions}, as of {day}.",
        "What only one of them has is taken from it. Where both know a model and differ in a rate of the list that holds on that day,",
        f"one is taken whole; these are the {count} cases. Dollars, in the units of [docs/prices.md](../../docs/prices.md).", "",
    ]
    for vendor in sorted(differences):
        if not differences[vendor]:
            continue
        lines += [f"## {vendor}", "", "| Model | Differing rates (litellm / genai-prices) | Taken | Why |", "|---|---|---|---|"]
        for model, items, taken, why in sorted(differences[vendor]):
            rates = ", ".join(f"{item} {number(one)} / {number(other)}" for item, (one, other) in items.items())
            lines.append(f"| `{model}` | {rates} | {taken.replace('genai', 'genai-prices')} | {why} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def main(folder, day):
    read, versions = {}, []
    for wheel in sorted(Path(folder).glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        inner = {"litellm": "litellm/model_prices_and_context_window_backup.json", "genai_prices": "genai_prices/data.py"}
        if name in inner:
            read[name] = zipfile.ZipFile(wheel).read(inner[name]).decode()
            versions.append(f"{name.replace('_', '-')} {version}")
    if len(read) != 2:
        sys.exit("there must be one wheel of litellm and one of genai-prices in the folder")
    made, differences = catalogue(json.loads(read["litellm"]), read_python(read["genai_prices"]), day)
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("*.json"):
        old.unlink()
    for vendor, models in made.items():
        (OUT / f"{vendor}.json").write_text(render(vendor, models), encoding="utf-8")
    (OUT / "DIFFERENCES.md").write_text(report(made, differences, " and ".join(versions), day), encoding="utf-8")
    print(f"{sum(map(len, made.values()))} models of {len(made)} vendors, {sum(map(len, differences.values()))} differences")


if __name__ == "__main__":
    if len(sys.argv) != 3 or not re.fullmatch(r"20\d\d-\d\d-\d\d", sys.argv[2]):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
