use super::*;

fn prompt(pieces: &[Piece<'_>]) -> Prompt {
    let mut prompt = Prompt::default();
    pieces.iter().for_each(|piece| prompt.add(*piece));
    prompt
}

/// Goal: the weights in the source are those of the fit, feature by feature and family by family.
#[test]
fn weights_are_those_of_the_fit() {
    let file: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/tokens.json")).unwrap();
    let names = file["features"].as_object().unwrap();
    assert_eq!(names.len(), Features::NAMES.len());
    let families = file["families"].as_object().unwrap();
    assert_eq!(families.len(), Family::WORDS.len());
    for (word, family) in Family::WORDS {
        assert_eq!(family.as_str(), word);
        for (name, weight) in Features::NAMES.iter().zip(family.weights()) {
            let fitted = families[word][name].as_f64().unwrap();
            assert_eq!((fitted * 1_000.0).round(), f64::from(weight), "{word} {name}");
        }
    }
}

/// Goal: a text is weighed in integers and rounded up.
#[test]
fn weighs_and_rounds_up() {
    let mut text = Features::default();
    assert_eq!(Family::O200k.tokens(&text), 0);
    text.add_text("a");
    assert_eq!(Family::O200k.tokens(&text), 1);
    text.add_text("b c d");
    assert_eq!((Family::O200k.tokens(&text), Family::MistralV3.tokens(&text)), (4, 4));
    let mut spaces = Features::default();
    spaces.add_text(&" ".repeat(1_000_000));
    assert_eq!(Family::O200k.tokens(&spaces), 15_626);
}

/// Goal: the family follows from the id, and a distilled model has that of its base.
#[test]
fn knows_the_family_of_a_model() {
    for (id, family) in [
        ("openai/gpt-4o-mini", Family::O200k),
        ("openai/gpt-4.1", Family::O200k),
        ("openai/gpt-5", Family::O200k),
        ("openai/gpt-oss-120b", Family::O200k),
        ("openai/o3", Family::O200k),
        ("openai/gpt-4-turbo", Family::Cl100k),
        ("openai/gpt-3.5-turbo", Family::Cl100k),
        ("openai/text-embedding-3-large", Family::Cl100k),
        ("meta-llama/Llama-3.3-70B-Instruct", Family::Llama3),
        ("deepseek/deepseek-chat", Family::DeepseekV3),
        ("deepseek/deepseek-r1-distill-llama-70b", Family::Llama3),
        ("deepseek/deepseek-r1-distill-qwen-32b", Family::Qwen2),
        ("alibaba/qwq-32b", Family::Qwen2),
        ("mistral/codestral", Family::MistralV3),
        ("moonshotai/kimi-k2", Family::KimiK2),
        ("zhipu/glm-4.6", Family::Glm4),
        ("z-ai/any", Family::Glm4),
        ("minimax/minimax-m2", Family::MinimaxM2),
        ("anthropic/claude-sonnet-4", Family::Cl100k),
        ("google/gemini-2.5-pro", Family::MistralV3),
        ("x-ai/grok-4", Family::O200k),
        ("someone/something", Family::O200k),
        ("", Family::O200k),
    ] {
        assert_eq!(Family::of_model(id), family, "{id}");
    }
}

/// Goal: messages, names, listed tokens and the reply cost what the providers say.
#[test]
fn frames_cost_a_little() {
    let frame = prompt(&[Piece::Message, Piece::Message, Piece::Name, Piece::Listed, Piece::Text("hello")]);
    assert_eq!((frame.frame(), frame.text_bytes), (2 * 3 + 1 + 1 + 3, 5));
    assert_eq!(frame.text_tokens(Family::O200k), 11 + 1);
    let listed = prompt(&[Piece::Listed; 7]);
    assert_eq!(listed.tokens(Family::O200k, ImageRule::default()), 7);
}

/// Goal: images cost what the rule of the model says, by detail, and are no text.
#[test]
fn images_cost_by_rule() {
    let images = prompt(&[Piece::Image { low: false }, Piece::Image { low: true }, Piece::Bulk(9)]);
    let tokens = |rule| images.tokens(Family::O200k, rule);
    assert_eq!(tokens(ImageRule::default()), 2 * 4_096 + 9);
    assert_eq!(tokens(ImageRule::Tiles { base: 85, tile: 170 }), 85 + 8 * 170 + 85 + 9);
    assert_eq!(tokens(ImageRule::Patches { most: 1_536, thousandths: 1_620 }), 2_489 + 415 + 9);
    assert_eq!(images.text_tokens(Family::O200k), 0);
    let endless = prompt(&[Piece::Bulk(u64::MAX), Piece::Bulk(u64::MAX), Piece::Image { low: false }]);
    assert_eq!(endless.tokens(Family::O200k, ImageRule::default()), u64::MAX);
}

/// Goal: the factor follows what is reported, within its range.
#[test]
fn learns_a_factor() {
    let learned = Learned::default();
    assert_eq!(
        (learned.thousandths(), learned.expected(1_000), learned.reserve(1_000)),
        (1_000, 1_000, 1_150)
    );
    (0..200).for_each(|_| learned.record(1_000, 1_300));
    assert!((1_299..=1_300).contains(&learned.thousandths()), "{}", learned.thousandths());
    assert!((learned.factor() - 1.3).abs() < 0.001);
    (0..200).for_each(|_| learned.record(1_000, 5_000));
    assert!((2_999..=3_000).contains(&learned.thousandths()));
    (0..200).for_each(|_| learned.record(1_000, 300));
    assert!((700..=701).contains(&learned.thousandths()));
    assert!(learned.reserve(u64::MAX) > u64::MAX / 5 * 4);
}

/// Goal: a single sample moves little, and samples that say nothing move nothing.
#[test]
fn ignores_wild_samples() {
    let learned = Learned::default();
    for (estimated, reported) in
        [(49, 147), (0, 0), (1_000, 0), (1_000, 100), (1_000, 7_000), (1_000, u64::MAX)]
    {
        learned.record(estimated, reported);
        assert_eq!(learned.thousandths(), 1_000, "{estimated} {reported}");
    }
    learned.record(1_000, 2_000);
    assert_eq!(learned.thousandths(), 1_063);
}
