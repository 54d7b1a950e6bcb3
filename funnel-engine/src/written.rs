//! How our enums and objects are written in JSON, stricter than serde's derive: an enum is text and nothing else,
//! an object is never a list of its values. Both say in their errors what to write, and no error repeats much of
//! what it refuses.

/// An enum that JSON writes as one of a few names. One table serves reading, writing and the messages.
macro_rules! named {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $($(#[$variant_attribute])* $variant,)+
        }

        impl $name {
            /// Every one, in the order of the contract.
            $visibility const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in JSON.
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                let found = Self::ALL.iter().find(|one| one.as_str() == text);
                found.copied().ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    serde::de::Error::custom(format_args!(
                        "`{text}` is not known here: write one of {}",
                        known.join(", ")
                    ))
                })
            }
        }
    };
}

/// Reading and writing of a struct that derives both with `#[serde(remote = "Self")]`; it is read from an object only.
macro_rules! object {
    ($name:ident, $expected:literal) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Object;

                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        map: A,
                    ) -> Result<$name, A::Error> {
                        // The derived function of the same name, which wins over the trait's.
                        $name::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }

                deserializer.deserialize_map(Object)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }
    };
}

pub(crate) use {named, object};

/// Longest text of an error, characters.
const MESSAGE_MAX: usize = 500;

/// Cuts the text of an error, which may repeat megabytes of what was read.
pub(crate) fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MESSAGE_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::shortened;

    named! {
        /// Two sides.
        enum Side {
            /// One.
            Left = "left",
            /// The other.
            Right = "right",
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(remote = "Self", deny_unknown_fields)]
    struct Turn {
        side: Side,
        #[serde(default)]
        times: u8,
    }

    object!(Turn, "a turn: an object with `side`");

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!(shortened("ä".repeat(500)), "ä".repeat(500));
        assert_eq!(
            shortened("ä".repeat(501)),
            format!("{}...", "ä".repeat(500))
        );
    }

    #[test]
    fn an_object_is_an_object_and_a_name_is_text() {
        let turn: Turn = serde_json::from_str(r#"{"side":"right","times":3}"#).unwrap();
        assert_eq!(
            turn,
            Turn {
                side: Side::Right,
                times: 3
            }
        );
        assert_eq!(
            serde_json::to_string(&turn).unwrap(),
            r#"{"side":"right","times":3}"#
        );
        for (json, expected) in [
            (r#"["left",1]"#, "expected a turn: an object with `side`"),
            (r#"{"side":"up"}"#, "write one of left, right"),
            (r#"{"side":{"left":null}}"#, "expected a string"),
            (r#"{"side":"left","tims":1}"#, "unknown field `tims`"),
            (r#"{"side":"left","side":"left"}"#, "duplicate field"),
        ] {
            let error = serde_json::from_str::<Turn>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
