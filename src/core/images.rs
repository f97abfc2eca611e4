//! What a model accepts of the images that it is asked for (spec 11.2).
//!
//! A rule is a list of words, compared byte for byte. A model without a list is not checked for it, and what a request
//! does not say is its provider's default.

use std::sync::Arc;

/// Values that a model accepts.
pub type Listed = Option<Arc<[Box<str>]>>;

/// The rules of one model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageRules {
    /// Values of `size`.
    pub sizes: Listed,
    /// Values of `quality`.
    pub qualities: Listed,
    /// Values of `image_config.aspect_ratio`.
    pub aspect_ratios: Listed,
    /// Values of `image_config.image_size`.
    pub image_sizes: Listed,
}

/// How a request wants its images; what it does not say is `None`, and what is no text is an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageWishes {
    /// `size`
    pub size: Option<String>,
    /// `quality`
    pub quality: Option<String>,
    /// `image_config.aspect_ratio`
    pub aspect_ratio: Option<String>,
    /// `image_config.image_size`
    pub image_size: Option<String>,
    /// A member of these that may be read in more than one way: given twice, or in other letters.
    pub doubtful: Option<&'static str>,
}

/// The rule that a request breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFault {
    /// This member has a value that is not among those accepted.
    NotListed(&'static str, Arc<[Box<str>]>),
    /// This member may be read in more than one way.
    Doubtful(&'static str),
}

impl ImageRules {
    /// Whether anything of a request is checked.
    #[must_use]
    pub fn are_any(&self) -> bool {
        *self != Self::default()
    }

    /// Checks a request.
    ///
    /// # Errors
    ///
    /// The first [`ImageFault`].
    pub fn check(&self, wishes: &ImageWishes) -> Result<(), ImageFault> {
        if let Some(member) = wishes.doubtful.filter(|_| self.are_any()) {
            return Err(ImageFault::Doubtful(member));
        }
        let rules = [
            ("size", &wishes.size, &self.sizes),
            ("quality", &wishes.quality, &self.qualities),
            ("image_config.aspect_ratio", &wishes.aspect_ratio, &self.aspect_ratios),
            ("image_config.image_size", &wishes.image_size, &self.image_sizes),
        ];
        for (member, wish, listed) in rules {
            let (Some(wish), Some(listed)) = (wish, listed) else { continue };
            if !listed.iter().any(|value| **value == **wish) {
                return Err(ImageFault::NotListed(member, Arc::clone(listed)));
            }
        }
        Ok(())
    }
}

impl ImageFault {
    /// The member at fault.
    #[must_use]
    pub fn member(&self) -> &'static str {
        match self {
            Self::NotListed(member, _) | Self::Doubtful(member) => member,
        }
    }

    /// Whether it is a matter of size or shape.
    #[must_use]
    pub fn is_of_size(&self) -> bool {
        matches!(self, Self::NotListed(member, _) if *member != "quality")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(values: &[&str]) -> Listed {
        Some(values.iter().map(|value| (*value).into()).collect())
    }

    /// Goal: listed values pass, byte for byte; others and what is no text do not; what is not said or not listed passes.
    #[test]
    fn lists_decide() {
        let rules = ImageRules { sizes: listed(&["1024x1024", "auto"]), ..ImageRules::default() };
        let size = |size: &str| ImageWishes { size: Some(size.into()), ..ImageWishes::default() };
        for good in ["1024x1024", "auto"] {
            assert_eq!(rules.check(&size(good)), Ok(()));
        }
        for bad in ["512x512", "Auto", " auto", "1024X1024", ""] {
            let fault = rules.check(&size(bad)).unwrap_err();
            assert!(fault.is_of_size() && fault.member() == "size", "{bad}");
        }
        let quality = ImageWishes { quality: Some("x".into()), ..ImageWishes::default() };
        assert_eq!(rules.check(&quality), Ok(()));
        assert_eq!(rules.check(&ImageWishes::default()), Ok(()));
        assert_eq!(ImageRules::default().check(&size("?")), Ok(()));
    }

    /// Goal: each list guards its own member; what may be read twice is refused only where there is a rule.
    #[test]
    fn members_have_their_own_lists() {
        let all = ImageWishes {
            size: Some("a".into()),
            quality: Some("b".into()),
            aspect_ratio: Some("c".into()),
            image_size: Some("d".into()),
            doubtful: None,
        };
        let none = ImageRules::default();
        let no = listed(&["z"]);
        for (rules, member, of_size) in [
            (ImageRules { sizes: no.clone(), ..none.clone() }, "size", true),
            (ImageRules { qualities: no.clone(), ..none.clone() }, "quality", false),
            (ImageRules { aspect_ratios: no.clone(), ..none.clone() }, "image_config.aspect_ratio", true),
            (ImageRules { image_sizes: no, ..none.clone() }, "image_config.image_size", true),
        ] {
            let fault = rules.check(&all).unwrap_err();
            assert_eq!((fault.member(), fault.is_of_size()), (member, of_size));
            let doubtful = ImageWishes { doubtful: Some("size"), ..ImageWishes::default() };
            assert_eq!(rules.check(&doubtful), Err(ImageFault::Doubtful("size")));
            assert_eq!(none.check(&doubtful), Ok(()));
        }
    }
}
