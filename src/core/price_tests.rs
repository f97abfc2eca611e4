use super::*;
use proptest::prelude::*;

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

fn dollars(text: &str) -> Option<Money> {
    Some(Money::parse(text).unwrap())
}

fn times(text: &str) -> Multiplier {
    Multiplier::parse(text).unwrap()
}

/// A price of input, output and cache reads.
fn listed(input: &str, output: &str, cache_read: &str) -> Listed {
    Listed {
        input: rate(input),
        output: rate(output),
        cache_read: Some(rate(cache_read)),
        ..Listed::default()
    }
}

fn plain() -> Listed {
    listed("1.25", "10", "0.125")
}

fn caching() -> Listed {
    Listed { cache_write_5m: Some(rate("3.75")), cache_write_1h: Some(rate("6")), ..listed("3", "15", "0.3") }
}

fn imaging() -> Listed {
    Listed { image_input: Some(rate("8")), image_output: Some(rate("40")), ..listed("5", "10", "1.25") }
}

fn of_model(listed: Listed, id: &str) -> Listed {
    Listed { long_context: default_long_context(id), ..listed }
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

fn check(rows: &[(&str, Listed, Usage, i64)]) {
    for (name, listed, usage, nanos) in rows {
        assert_eq!(Price::from(*listed).cost(usage).nanos(), *nanos, "{name}");
    }
}

const ABSURD: Usage = Usage {
    input: u64::MAX,
    output: u64::MAX,
    cached: u64::MAX,
    cache_write: u64::MAX,
    cache_write_1h: u64::MAX,
    image_input: u64::MAX,
    image_output: u64::MAX,
    reasoning: u64::MAX,
    images: u64::MAX,
    seconds: u64::MAX,
};

/// Goal: what calls of every kind cost, to the nano-dollar. A dollar per million tokens is 1,000 nano-dollars per token.
#[test]
fn costs_of_tokens() {
    let cached = |input, cached, output| Usage { cached, ..tokens(input, output) };
    let written = |cache_write, cache_write_1h| Usage { cache_write, cache_write_1h, ..tokens(10_000, 100) };
    check(&[
        // 1,000 × 1,250 + 500 × 10,000
        ("plain", plain(), tokens(1_000, 500), 6_250_000),
        // Reasoning is output like any other: 1,000 × 1,250 + 500 × 10,000
        ("reasoning", plain(), Usage { reasoning: 400, ..tokens(1_000, 500) }, 6_250_000),
        ("nothing", plain(), Usage::default(), 0),
        // 200 × 1,250 + 800 × 125 + 100 × 10,000 = 250,000 + 100,000 + 1,000,000
        ("cached", plain(), cached(1_000, 800, 100), 1_350_000),
        // 1,000 × 125
        ("all cached", plain(), cached(1_000, 1_000, 0), 125_000),
        ("more cached than there is", plain(), cached(1_000, 5_000, 0), 125_000),
        // Without a rate of its own a part is priced as its whole: 1,000 × 1,250
        ("cached, no rate", Listed { cache_read: None, ..plain() }, cached(1_000, 800, 0), 1_250_000),
        // 2,000 × 3,000 + 8,000 × 3,750 + 100 × 15,000 = 6,000,000 + 30,000,000 + 1,500,000
        ("written for five minutes", caching(), written(8_000, 0), 37_500_000),
        // 2,000 × 3,000 + 8,000 × 6,000 + 100 × 15,000 = 6,000,000 + 48,000,000 + 1,500,000
        ("written for an hour", caching(), written(8_000, 8_000), 55_500_000),
        // No rate for an hour, so that of five minutes
        ("an hour, no rate", Listed { cache_write_1h: None, ..caching() }, written(8_000, 8_000), 37_500_000),
        // 2,000 × 3,000 + 3,000 × 300 + 3,000 × 3,750 + 2,000 × 6,000 + 100 × 15,000
        // = 6,000,000 + 900,000 + 11,250,000 + 12,000,000 + 1,500,000
        ("all of them", caching(), Usage { cached: 3_000, ..written(5_000, 2_000) }, 31_650_000),
        // 9,960 × 3,000 + 40 × 6,000 + 100 × 15,000 = 29,880,000 + 240,000 + 1,500,000
        ("more for an hour than written", caching(), written(40, 90), 31_620_000),
    ]);
}

/// Goal: images and units have prices of their own, and nothing multiplies a price per unit.
#[test]
fn costs_of_images_and_units() {
    let image = |image_input, image_output| Usage { image_input, image_output, ..tokens(1_000, 4_260) };
    let units = |images, seconds| Usage { images, seconds, ..Usage::default() };
    let unit_prices = Listed {
        request: dollars("0.01"),
        image: dollars("0.04"),
        second: dollars("0.15"),
        ..of_model(plain(), "openai/gpt-5")
    };
    check(&[
        // 1,000 × 5,000 + 4,260 × 10,000
        ("text alone", imaging(), image(0, 0), 47_600_000),
        // 400 × 5,000 + 600 × 8,000 + 4,260 × 10,000 = 2,000,000 + 4,800,000 + 42,600,000
        ("image input", imaging(), image(600, 0), 49_400_000),
        // 1,000 × 5,000 + 100 × 10,000 + 4,160 × 40,000 = 5,000,000 + 1,000,000 + 166,400,000
        ("image output", imaging(), image(0, 4_160), 172_400_000),
        // 400 × 5,000 + 600 × 8,000 + 4,260 × 40,000 = 2,000,000 + 4,800,000 + 170,400,000
        ("more image than output", imaging(), image(600, 9_999), 177_200_000),
        // No rates for images: 1,000 × 1,250 + 4,260 × 10,000
        ("images, no rate", plain(), image(600, 4_160), 43_850_000),
        // 10,000,000 + 8 × 1,250 + 1 × 10,000
        ("a request", unit_prices, tokens(8, 1), 10_020_000),
        // 10,000,000 + 3 × 40,000,000
        ("three images", unit_prices, units(3, 0), 130_000_000),
        // 10,000,000 + 8 × 150,000,000
        ("eight seconds", unit_prices, units(0, 8), 1_210_000_000),
        // 10,000,000 + 2 × 40,000,000 + 8 × 150,000,000
        ("both", unit_prices, units(2, 8), 1_290_000_000),
        // 10,000,000 + 300,000 × 2,500 + 3 × 40,000,000
        ("long", unit_prices, Usage { input: 300_000, ..units(3, 0) }, 880_000_000),
    ]);
}

/// Goal: a fraction of a nano-dollar is rounded up, once for a request.
#[test]
fn costs_are_rounded_up_once() {
    let cents = listed("0.0375", "0.0375", "0.0375");
    let least = listed("0.000001", "0.000001", "0");
    check(&[
        // 37.5
        ("a half", cents, tokens(1, 0), 38),
        // 37.5 + 37.5, not 38 + 38
        ("two halves", cents, tokens(1, 1), 75),
        // 37.5 + 37.5 + 37.5 = 112.5
        ("three halves", cents, Usage { cached: 1, ..tokens(2, 1) }, 113),
        // 0.001
        ("the least", least, tokens(1, 0), 1),
        // 1,000 × 0.001
        ("a thousand times", least, tokens(500, 500), 1),
        // 1,001 × 0.001
        ("and one more", least, tokens(1_001, 0), 2),
    ]);
}

/// Goal: the shipped rules for long contexts, on both sides of each threshold.
#[test]
fn costs_of_long_contexts() {
    let openai = of_model(plain(), "openai/gpt-5.1");
    let google = of_model(plain(), "google/gemini-2.5-pro");
    let grok = of_model(listed("3", "15", "0.75"), "x-ai/grok-4");
    check(&[
        // 271,999 × 1,250 + 1,000 × 10,000 = 339,998,750 + 10,000,000
        ("openai, below", openai, tokens(271_999, 1_000), 349_998_750),
        // 272,000 × 2,500 + 1,000 × 15,000 = 680,000,000 + 15,000,000
        ("openai, from", openai, tokens(272_000, 1_000), 695_000_000),
        // 272,001 × 2,500 + 1,000 × 15,000 = 680,002,500 + 15,000,000
        ("openai, above", openai, tokens(272_001, 1_000), 695_002_500),
        // Cached tokens count: 2,000 × 2,500 + 270,000 × 250 = 5,000,000 + 67,500,000
        ("openai, cached", openai, Usage { cached: 270_000, ..tokens(272_000, 0) }, 72_500_000),
        // 199,999 × 1,250 + 100 × 10,000 = 249,998,750 + 1,000,000
        ("google, below", google, tokens(199_999, 100), 250_998_750),
        // 200,000 × 2,500 + 100 × 15,000 = 500,000,000 + 1,500,000
        ("google, from", google, tokens(200_000, 100), 501_500_000),
        // 200,001 × 2,500 + 100 × 15,000 = 500,002,500 + 1,500,000
        ("google, above", google, tokens(200_001, 100), 501_502_500),
        // 200,000 × 3,000 + 100 × 15,000 = 600,000,000 + 1,500,000
        ("grok, up to", grok, tokens(200_000, 100), 601_500_000),
        // 200,001 × 6,000 + 100 × 30,000 = 1,200,006,000 + 3,000,000
        ("grok, above", grok, tokens(200_001, 100), 1_203_006_000),
        // 200,002 × 6,000 + 100 × 30,000 = 1,200,012,000 + 3,000,000
        ("grok, further", grok, tokens(200_002, 100), 1_203_012_000),
    ]);
    let long_context =
        LongContext { from: 200_000, input: times("2"), output: times("1.5"), cache: times("3") };
    let apart = Listed { long_context: Some(long_context), request: dollars("0.01"), ..caching() };
    let usage = Usage {
        cached: 100_000,
        cache_write: 50_000,
        cache_write_1h: 10_000,
        image_input: 20_000,
        image_output: 4,
        ..tokens(200_000, 10)
    };
    // Input 50,000 × 3,000 × 2 = 300,000,000; reads 100,000 × 300 × 3 = 90,000,000; writes 40,000 × 3,750 × 3
    // + 10,000 × 6,000 × 3 = 450,000,000 + 180,000,000; output 10 × 15,000 × 1.5 = 225,000; the request 10,000,000.
    check(&[("each multiplier on its own", apart, usage, 1_030_225_000)]);
}

/// Goal: nothing wraps: absurd usage costs all the money there is, or nothing where nothing costs anything.
#[test]
fn absurd_usage_saturates() {
    let (most, far) = (Rate(RATE_MAX), Some(LongContext { from: 0, ..dearest() }));
    let dear = Listed {
        input: most,
        output: most,
        request: Some(Money::MAX),
        image: Some(Money::MAX),
        second: Some(Money::MAX),
        long_context: far,
        ..Listed::default()
    };
    let tiny = Listed { second: Some(Money::from_nanos(1)), ..Listed::default() };
    check(&[
        ("plain", plain(), ABSURD, i64::MAX),
        ("dear", dear, ABSURD, i64::MAX),
        ("a nano-dollar each", tiny, ABSURD, i64::MAX),
        ("free", Listed::default(), ABSURD, 0),
    ]);
    let dear = Price::from(dear);
    assert_eq!(dear.input_cost(u64::MAX), Money::MAX);
    assert_eq!(dear.output_cost(u64::MAX, u64::MAX), Money::MAX);
    assert_eq!(dear.unit_cost(u64::MAX, u64::MAX), Money::MAX);
}

fn dearest() -> LongContext {
    let most = Multiplier(MULTIPLIER_MAX);
    LongContext { from: u64::MAX, input: most, output: most, cache: most }
}

/// Goal: prices and multipliers are read exactly, and only within their bounds.
#[test]
fn decimals_within_bounds() {
    assert_eq!(Rate::parse("1.25").map(Rate::picos), Some(1_250_000));
    assert_eq!(Rate::parse("0.000001").map(Rate::picos), Some(1));
    assert_eq!(Rate::parse("10000").map(Rate::picos), Some(RATE_MAX));
    for text in ["", "-1", "1e3", "0.0000001", "10000.000001", "999999999999999999", "NaN"] {
        assert_eq!(Rate::parse(text), None, "{text}");
    }
    assert_eq!(Multiplier::parse("1.5").map(Multiplier::millionths), Some(1_500_000));
    assert!(Multiplier::parse("1").is_some() && Multiplier::parse("100").is_some());
    for text in ["0", "0.999999", "100.000001", "x"] {
        assert_eq!(Multiplier::parse(text), None, "{text}");
    }
}

/// Goal: the shipped rules go to the models whose providers have them, and to no others.
#[test]
fn default_rules_by_model() {
    for (ids, expected) in [
        (
            &["openai/gpt-5", "openai/gpt-4.1-mini", "openai/o3", "openai/o4-mini"][..],
            Some((272_000, 1_500_000)),
        ),
        (
            &["google/gemini-2.5-pro", "google/gemini-3-pro-preview", "google/gemini-pro-1.5"],
            Some((200_000, 1_500_000)),
        ),
        (&["xai/grok-4", "x-ai/grok-code-fast-1"], Some((200_001, 2_000_000))),
        (
            &[
                "anthropic/claude-sonnet-4.5",
                "google/gemini-2.5-flash",
                "google/gemini-3-prototype",
                "openai/text-embedding-3-small",
                "gpt-5",
                "someone/grok",
                "",
            ],
            None,
        ),
    ] {
        for id in ids {
            let rule = default_long_context(id);
            assert_eq!(rule.map(|rule| (rule.from, rule.output.millionths())), expected, "{id}");
            assert!(rule.is_none_or(|rule| rule.input == times("2") && rule.cache == times("2")), "{id}");
        }
    }
}

/// Goal: the digest never changes for a price, and changes with every number of it.
#[test]
fn versions_tell_prices_apart() {
    let price = Price::from(plain());
    // FNV-1a over fourteen little-endian words: 1250000, 10000000, 125000, three times 1250000, 10000000, three times
    // zero, 2^64 - 1, three times 1000000.
    assert_eq!(price.version(), 0xb477_3469_8604_58f5);
    let spelled = Listed { cache_write_1h: Some(rate("1.250")), image: dollars("0.00"), ..plain() };
    assert_eq!(Price::from(spelled).version(), price.version(), "the same price");
    let mut versions = vec![price.version()];
    let (more, some) = (rate("11"), Money::from_nanos(1));
    for other in [
        Price { input: more, ..price },
        Price { output: more, ..price },
        Price { cache_read: more, ..price },
        Price { cache_write_5m: more, ..price },
        Price { cache_write_1h: more, ..price },
        Price { image_input: more, ..price },
        Price { image_output: more, ..price },
        Price { request: some, ..price },
        Price { image: some, ..price },
        Price { second: some, ..price },
        Price { long_context: default_long_context("openai/gpt-5"), ..price },
        Price { long_context: default_long_context("google/gemini-2.5-pro"), ..price },
        Price { long_context: default_long_context("xai/grok-4"), ..price },
    ] {
        assert!(!versions.contains(&other.version()), "{other:?}");
        assert!(!other.is_free());
        versions.push(other.version());
    }
    let free = of_model(Listed::default(), "openai/gpt-5");
    assert!(Price::from(free).is_free() && Price::from(Listed::default()).is_free());
    assert!(!Price::from(Listed { second: Some(some), ..free }).is_free());
}

/// Goal: free output is bounded by nothing, and a debt covers nothing.
#[test]
fn what_money_covers() {
    let price = Price::from(of_model(plain(), "openai/gpt-5"));
    // 10,000 nano-dollars for a token, 15,000 for one after a long input.
    for (input, nanos, covered) in
        [(0, 0, 0), (0, 9_999, 0), (0, 10_000, 1), (271_999, 29_999, 2), (272_000, 29_999, 1), (0, -1, 0)]
    {
        assert_eq!(price.affordable_output(input, Money::from_nanos(nanos)), covered, "{input} {nanos}");
    }
    let free = Price { output: Rate::ZERO, image_output: Rate::ZERO, ..price };
    assert_eq!(free.affordable_output(0, Money::ZERO), u64::MAX);
    assert_eq!(free.affordable_output(0, Money::from_nanos(-1)), 0);
}

fn any_rate() -> impl Strategy<Value = Rate> {
    prop_oneof![Just(0), 0u64..1_000, 0u64..50_000_000, 0..=RATE_MAX].prop_map(Rate)
}

fn any_long_context() -> impl Strategy<Value = Option<LongContext>> {
    let multiplier = || prop_oneof![ONE..3 * ONE, ONE..=MULTIPLIER_MAX].prop_map(Multiplier);
    let rule = (0u64..20_000, multiplier(), multiplier(), multiplier());
    prop::option::of(rule.prop_map(|(from, input, output, cache)| LongContext { from, input, output, cache }))
}

fn any_price() -> impl Strategy<Value = Price> {
    let unit = || prop_oneof![Just(0), 0i64..2_000_000_000].prop_map(Money::from_nanos);
    (prop::array::uniform7(any_rate()), [unit(), unit(), unit()], any_long_context()).prop_map(
        |(rates, [request, image, second], long_context)| {
            let [input, output, cache_read, cache_write_5m, cache_write_1h, image_input, image_output] =
                rates;
            Price {
                input,
                output,
                cache_read,
                cache_write_5m,
                cache_write_1h,
                image_input,
                image_output,
                request,
                image,
                second,
                long_context,
            }
        },
    )
}

/// Counts of tokens and units that have nothing in common, as a usage.
fn usage_of(counts: [u64; 9]) -> Usage {
    let [fresh, cached, written, hour, image_input, text, image_output, images, seconds] = counts;
    Usage {
        input: fresh + cached + written + hour + image_input,
        output: text + image_output,
        cached,
        cache_write: written + hour,
        cache_write_1h: hour,
        image_input,
        image_output,
        reasoning: text / 2,
        images,
        seconds,
    }
}

fn any_counts() -> impl Strategy<Value = [u64; 9]> {
    prop::array::uniform9(prop_oneof![Just(0), 0u64..10, 0u64..10_000, 0u64..1 << 50])
}

proptest! {
    /// Goal: whatever is more in a call, and however many of it, the call never costs less.
    #[test]
    fn more_never_costs_less(price in any_price(), counts in any_counts(), which in 0usize..9, more in 0u64..20_000) {
        let before = price.cost(&usage_of(counts));
        let mut counts = counts;
        counts[which] += more;
        prop_assert!(price.cost(&usage_of(counts)) >= before);
        prop_assert!(before >= Money::ZERO);
    }

    /// Goal: a usage within its bounds never costs more than what is reserved for it in parts.
    #[test]
    fn reservations_cover_costs(price in any_price(), counts in any_counts(), spare in (0u64..10_000, 0u64..10_000)) {
        let usage = usage_of(counts);
        let (input, output) = (usage.input + spare.0, usage.output + spare.1);
        let reserved = price
            .input_cost(input)
            .saturating_add(price.output_cost(input, output))
            .saturating_add(price.unit_cost(usage.images, usage.seconds));
        prop_assert!(price.cost(&usage) <= reserved);
    }

    /// Goal: what money covers costs no more than the money, and one token more would.
    #[test]
    fn money_covers_what_it_is_said_to(price in any_price(), counts in any_counts(), nanos in prop_oneof![0i64..100_000, 0..i64::MAX]) {
        let (usage, money) = (usage_of(counts), Money::from_nanos(nanos));
        let output = price.affordable_output(usage.input, money);
        prop_assert!(price.output_cost(usage.input, output) <= money);
        if let Some(more) = output.checked_add(1) {
            prop_assert!(price.output_cost(usage.input, more) > money);
        }
        let usage = Usage { output, image_output: usage.image_output.min(output), ..usage };
        let rest = price.input_cost(usage.input).saturating_add(price.unit_cost(usage.images, usage.seconds));
        prop_assert!(price.cost(&usage) <= rest.saturating_add(money));
    }

    /// Goal: a cost is what fractions that are never rounded come to, rounded up.
    #[test]
    fn costs_are_exact(rates in (0u64..50_000_000, 0u64..50_000_000), input in 0u64..1_000_000, output in 0u64..1_000_000) {
        let price = Price::from(Listed { input: Rate(rates.0), output: Rate(rates.1), ..Listed::default() });
        let picos = input * rates.0 + output * rates.1;
        prop_assert_eq!(price.cost(&tokens(input, output)).nanos(), picos.div_ceil(1_000) as i64);
    }
}
