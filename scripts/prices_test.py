#!/usr/bin/env python3
"""Tests of prices.py, on made-up collections: nothing is fetched, nothing of the repository is written."""

import json
import sys
import unittest
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import prices

DAY = "2026-11-20"
LITELLM = {
    "sample_spec": {"litellm_provider": "openai", "input_cost_per_token": 1},
    "gpt-a": {
        "litellm_provider": "openai", "mode": "chat", "max_input_tokens": 1000, "max_output_tokens": 100,
        "input_cost_per_token": 3.0000000000000004e-07, "output_cost_per_token": 1.2e-06,
        "input_cost_per_token_above_200k_tokens": 6e-07, "output_cost_per_token_above_200k_tokens": 1.8e-06,
        "input_cost_per_token_flex": 1.5e-07, "output_cost_per_token_flex": 6e-07,
        "input_cost_per_token_priority": 9e-07, "output_cost_per_reasoning_token": 1.2e-06,
        "regional_processing_uplift_multiplier_eu": 1.1, "supports_vision": True, "supports_function_calling": True,
        "search_context_cost_per_query": {"search_context_size_medium": 0.01},
        "deprecation_date": "2027-01-01", "source": "https://example.com/prices?x=1",
    },
    "gpt-a-2026-01-01": {
        "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 3e-07, "output_cost_per_token": 1.2e-06,
        "input_cost_per_token_above_200k_tokens": 6e-07, "output_cost_per_token_above_200k_tokens": 1.8e-06,
        "input_cost_per_token_flex": 1.5e-07, "output_cost_per_token_flex": 6e-07,
        "regional_processing_uplift_multiplier_eu": 1.1,
        "search_context_cost_per_query": {"search_context_size_medium": 0.01},
    },
    "gpt-dear": {"litellm_provider": "openai", "input_cost_per_token": 2e-06, "output_cost_per_token": 2e-06},
    "gpt-nothing": {"litellm_provider": "openai", "input_cost_per_token": 0, "output_cost_per_token": 0},
    "gpt-slip": {"litellm_provider": "openai", "input_cost_per_token": 0.003, "output_cost_per_token": 0.009},
    "whisper": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 0.0001},
    "xai/grok": {
        "litellm_provider": "xai", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06,
        "input_cost_per_token_above_200k_tokens": 2e-06,
    },
    "azure/gpt": {"litellm_provider": "azure", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
    "azure/eu/gpt": {"litellm_provider": "azure", "input_cost_per_token": 1.1e-06, "output_cost_per_token": 2.2e-06},
    "dashscope/qwen": {
        "litellm_provider": "dashscope",
        "tiered_pricing": [
            {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "range": [0, 32000.0]},
            {"input_cost_per_token": 2e-06, "output_cost_per_token": 2e-06, "range": [32000.0, 64000.0]},
        ],
    },
    "deepseek/chat": {
        "litellm_provider": "deepseek", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06,
        "cache_creation_input_token_cost": 0.0,
        "off_peak_pricing": {
            "input_cost_per_token": 5e-07, "output_cost_per_token": 1e-06,
            "windows": [{"hours_utc": ["10:00-00:00"], "weekdays": [1, 2, 3]}, {"hours_utc": "00:00-00:00", "weekdays": [6, 7]}],
        },
    },
    "nobody/model": {"litellm_provider": "nobody", "input_cost_per_token": 1e-06},
}
GENAI = '''
providers: list[Provider] = [
    Provider(id='openai', name='OpenAI', models=[
        ModelInfo(id='gpt-a', match=ClauseOr(or_=[ClauseEquals(equals='gpt-a'), ClauseEquals(equals='gpt-a-chat'), ClauseStartsWith(starts_with='gpt')]),
            prices=[
                ConditionalPrice(prices=ModelPrice(input_mtok=Decimal('0.5'), output_mtok=Decimal('1.2'))),
                ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2026, 6, 1)),
                    prices=ModelPrice(input_mtok=TieredPrices(base=Decimal('0.3'), tiers=[Tier(start=200000, price=Decimal('0.6'))]), output_mtok=Decimal('1.2'))),
                ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2027, 6, 1)), prices=ModelPrice(input_mtok=Decimal('9'))),
            ],
            price_variants=[PriceVariant(when={'processing': 'batch'}, prices=ModelPrice(input_mtok=Decimal('0.15'), output_mtok=Decimal('0.6')),
                constraint=StartDateConstraint(start_date=datetime.date(2026, 10, 1)))]),
        ModelInfo(id='gpt-dear', match=ClauseEquals(equals='gpt-dear'), prices=ModelPrice(input_mtok=Decimal('3'), output_mtok=Decimal('2'))),
    ]),
    Provider(id='openrouter', name='OpenRouter', models=[
        ModelInfo(id='a/b:free', match=ClauseEquals(equals='a/b:free'), context_window=5, prices=ModelPrice(input_mtok=Decimal('0'))),
        ModelInfo(id='a/b', match=ClauseEquals(equals='a/b'), prices=ModelPrice(input_mtok=Decimal('0'))),
    ]),
]
'''


def plain(value):
    return json.loads(prices.compact(value))


class Catalogue(unittest.TestCase):
    def setUp(self):
        self.made, self.differences = prices.catalogue(LITELLM, prices.read_python(GENAI), DAY)

    def entry(self, vendor, model):
        return plain(self.made[vendor][model])

    def test_both_collections_complete_each_other(self):
        entry = self.entry("openai", "gpt-a")
        self.assertEqual((entry["input"], entry["output"]), (0.5, 1.2))
        june, future = entry["later"]
        self.assertEqual(june["from"], "2026-06-01")
        self.assertEqual(june["above"], [{"tokens": 200000, "input": 0.6}])
        self.assertEqual(june["batch"], {"input": 0.15, "output": 0.6})
        self.assertEqual(june["tiers"], {"flex": {"input": 0.15, "output": 0.6}}, "half a tier is none")
        self.assertEqual(june["regions"], {"eu": {"times": 1.1}})
        self.assertEqual(june["searches"], 10)
        self.assertNotIn("tiers", future)
        self.assertEqual((entry["context"], entry["max_output"], entry["retires"]), (1000, 100, "2027-01-01"))
        self.assertEqual(entry["can"], ["tools", "vision"])
        self.assertEqual(entry["source"], "https://example.com/prices")
        self.assertIn("gpt-a-chat", entry["also"])

    def test_differences_are_listed_and_one_side_is_taken_whole(self):
        self.assertEqual(self.entry("openai", "gpt-dear")["input"], 3)
        (model, items, taken, _), = self.differences["openai"]
        self.assertEqual((model, taken), ("gpt-dear", "genai"))
        self.assertEqual(items, {"input": (Decimal("2.000000000"), Decimal("3.000000000"))})
        report = prices.report(self.made, self.differences, "x 1", DAY)
        self.assertIn("| `gpt-dear` | input 2 / 3 | genai-prices |", report)

    def test_zero_is_free_only_when_somebody_means_it(self):
        self.assertNotIn("gpt-nothing", self.made["openai"])
        self.assertNotIn("gpt-slip", self.made["openai"], "a price for a thousand tokens, as one for a token")
        self.assertNotIn("a/b", self.made["openrouter"])
        self.assertEqual(self.entry("openrouter", "a/b:free"), {"free": True, "context": 5})

    def test_units_steps_regions_and_hours(self):
        self.assertEqual(self.entry("openai", "whisper")["hour"], 0.36)
        self.assertEqual(self.entry("xai", "grok")["above"], [{"tokens": 199999, "input": 2}])
        self.assertEqual(self.entry("xai", "grok")["regions"], {"us": {"times": 1.1}})
        self.assertEqual(self.entry("azure", "gpt"), {"input": 1, "output": 2, "regions": {"eu": {"times": 1.1}}})
        self.assertEqual(self.entry("dashscope_cn", "qwen"), {"input": 1, "output": 2, "above": [{"tokens": 32000, "input": 2}]})
        chat = self.entry("deepseek", "chat")
        self.assertEqual(chat["hours"], [{"when": ["mon-wed 10:00-24:00", "sat-sun 00:00-24:00"], "input": 0.5, "output": 1}])
        self.assertNotIn("cache_write", chat)

    def test_the_output_is_stable_and_reads_back(self):
        for vendor, models in self.made.items():
            text = prices.render(vendor, models)
            shuffled = dict(reversed(list(models.items())))
            self.assertEqual(text, prices.render(vendor, shuffled))
            self.assertEqual(json.loads(text), {vendor: plain(models)})
        again, _ = prices.catalogue(LITELLM, prices.read_python(GENAI), DAY)
        self.assertEqual(self.made, again)

    def test_what_is_in_the_repository_was_written_by_this_script(self):
        for path in sorted(prices.OUT.glob("*.json")):
            text = path.read_text(encoding="utf-8")
            (vendor, models), = json.loads(text, parse_float=Decimal, parse_int=lambda digits: Decimal(digits)).items()
            self.assertEqual(prices.render(vendor, models), text, path.name)


if __name__ == "__main__":
    unittest.main()
