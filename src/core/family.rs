//! The families of tokenizers, with a weight for each feature of a text, fitted on technical texts in many languages.

use super::features::Features;

/// A tokenizer, or one near enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// GPT-4o and what came after it at OpenAI.
    #[default]
    O200k,
    /// GPT-3.5, GPT-4 and the embedding models of OpenAI.
    Cl100k,
    /// Llama 3 and later.
    Llama3,
    /// DeepSeek V3 and later, R1.
    DeepseekV3,
    /// Qwen 2 and later.
    Qwen2,
    /// Mistral, with the vocabulary of 131,072.
    MistralV3,
    /// Kimi K2.
    KimiK2,
    /// GLM 4 and later.
    Glm4,
    /// MiniMax M2.
    MinimaxM2,
}

/// Parts of a model's name that tell its family, first match first: a distilled model has the tokenizer of what it was
/// made from, not of who made it.
///
/// Two are guesses, for no vocabulary is public. Anthropic's makes more tokens of a text than O200k in every language,
/// and Cl100k is the nearest that does. Google's splits numbers into digits and knows many languages, as Mistral's.
const NAMES: [(&str, Family); 34] = [
    ("llama", Family::Llama3),
    ("qwen", Family::Qwen2),
    ("qwq", Family::Qwen2),
    ("qvq", Family::Qwen2),
    ("deepseek", Family::DeepseekV3),
    ("mistral", Family::MistralV3),
    ("mixtral", Family::MistralV3),
    ("ministral", Family::MistralV3),
    ("codestral", Family::MistralV3),
    ("devstral", Family::MistralV3),
    ("magistral", Family::MistralV3),
    ("pixtral", Family::MistralV3),
    ("voxtral", Family::MistralV3),
    ("kimi", Family::KimiK2),
    ("moonshot", Family::KimiK2),
    ("glm", Family::Glm4),
    ("zhipu", Family::Glm4),
    ("z-ai", Family::Glm4),
    ("zai/", Family::Glm4),
    ("minimax", Family::MinimaxM2),
    ("claude", Family::Cl100k),
    ("anthropic", Family::Cl100k),
    ("gemini", Family::MistralV3),
    ("gemma", Family::MistralV3),
    ("google", Family::MistralV3),
    ("gpt-4o", Family::O200k),
    ("gpt-4.", Family::O200k),
    ("chatgpt", Family::O200k),
    ("gpt-4", Family::Cl100k),
    ("gpt-3", Family::Cl100k),
    ("text-embedding", Family::Cl100k),
    ("davinci", Family::Cl100k),
    ("babbage", Family::Cl100k),
    ("ada-002", Family::Cl100k),
];

impl Family {
    /// Every family, by its word in configurations.
    pub const WORDS: [(&'static str, Self); 9] = [
        ("o200k", Self::O200k),
        ("cl100k_base", Self::Cl100k),
        ("llama3", Self::Llama3),
        ("deepseek_v3", Self::DeepseekV3),
        ("qwen2", Self::Qwen2),
        ("mistral_v3", Self::MistralV3),
        ("kimi_k2", Self::KimiK2),
        ("glm4", Self::Glm4),
        ("minimax_m2", Self::MinimaxM2),
    ];

    /// The family of a model, by its public id; [`Family::O200k`] where the id says nothing.
    #[must_use]
    pub fn of_model(public_id: &str) -> Self {
        let id = public_id.to_ascii_lowercase();
        NAMES.iter().find(|(part, _)| id.contains(part)).map_or(Self::O200k, |(_, family)| *family)
    }

    /// The word used in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, family)| *family == self).map_or("", |(word, _)| word)
    }

    /// About how many tokens a text is, rounded up.
    #[must_use]
    pub fn tokens(self, text: &Features) -> u64 {
        let weighed = text.counts().iter().zip(self.weights());
        let weighed = weighed.map(|(count, weight)| count.saturating_mul(u64::from(weight)));
        weighed.fold(0, u64::saturating_add).div_ceil(1_000)
    }

    /// Thousandths of a token for each of [`Features::NAMES`], fitted by non-negative least squares.
    #[must_use]
    #[rustfmt::skip]
    pub fn weights(self) -> [u16; Features::NAMES.len()] {
        match self {
            Self::O200k => [
                959, 79, 550, 600, 1200, 735, 178, 654, 991, 1000, 2534,
                277, 439, 372, 384, 413, 685, 726, 760, 1049, 2400, 3800,
            ],
            Self::Cl100k => [
                928, 120, 550, 600, 1206, 726, 141, 867, 870, 1000, 4652,
                454, 1173, 826, 1194, 929, 1067, 1020, 1008, 2474, 2400, 3800,
            ],
            Self::Llama3 => [
                927, 122, 550, 600, 1198, 741, 128, 851, 851, 1000, 4549,
                318, 1161, 443, 622, 478, 724, 642, 768, 2065, 2400, 3800,
            ],
            Self::DeepseekV3 => [
                966, 164, 550, 600, 1120, 873, 175, 577, 768, 1000, 3610,
                308, 546, 439, 665, 373, 787, 667, 620, 1062, 2400, 3800,
            ],
            Self::Qwen2 => [
                938, 142, 550, 600, 2403, 684, 56, 744, 1010, 1000, 4224,
                338, 445, 440, 1116, 553, 797, 634, 689, 500, 2400, 3800,
            ],
            Self::MistralV3 => [
                875, 135, 550, 600, 2388, 719, 253, 1345, 425, 1000, 2778,
                301, 495, 333, 432, 521, 646, 596, 941, 3541, 2400, 3800,
            ],
            Self::KimiK2 => [
                928, 138, 550, 600, 1196, 751, 74, 783, 912, 1000, 5729,
                406, 702, 560, 664, 783, 934, 775, 600, 1505, 2400, 3800,
            ],
            Self::Glm4 => [
                915, 110, 550, 600, 1452, 713, 147, 956, 827, 1000, 3598,
                276, 1162, 481, 1192, 927, 943, 704, 629, 2121, 2400, 3800,
            ],
            Self::MinimaxM2 => [
                948, 114, 550, 600, 1184, 781, 129, 555, 1007, 1000, 3851,
                344, 965, 362, 690, 1020, 627, 387, 582, 810, 2400, 3800,
            ],
        }
    }
}
