//! The files that come with the program, one table.

use super::file::File;
use super::value::Layer;

/// What holds where no file says otherwise.
pub(super) const DEFAULT: File<'static> = File {
    name: "shaping/default.toml",
    text: include_str!("../../../shaping/default.toml"),
    layer: Layer::BuiltIn,
};

/// `shaping/provider/*.toml` by name.
const PROVIDERS: &[(&str, &str)] = &[
    (
        "shaping/provider/any-site.toml",
        include_str!("../../../shaping/provider/any-site.toml"),
    ),
    (
        "shaping/provider/apple.toml",
        include_str!("../../../shaping/provider/apple.toml"),
    ),
    (
        "shaping/provider/att.toml",
        include_str!("../../../shaping/provider/att.toml"),
    ),
    (
        "shaping/provider/barracuda.toml",
        include_str!("../../../shaping/provider/barracuda.toml"),
    ),
    (
        "shaping/provider/bigpond.toml",
        include_str!("../../../shaping/provider/bigpond.toml"),
    ),
    (
        "shaping/provider/cisco.toml",
        include_str!("../../../shaping/provider/cisco.toml"),
    ),
    (
        "shaping/provider/comcast.toml",
        include_str!("../../../shaping/provider/comcast.toml"),
    ),
    (
        "shaping/provider/cox.toml",
        include_str!("../../../shaping/provider/cox.toml"),
    ),
    (
        "shaping/provider/facebook.toml",
        include_str!("../../../shaping/provider/facebook.toml"),
    ),
    (
        "shaping/provider/gmx.toml",
        include_str!("../../../shaping/provider/gmx.toml"),
    ),
    (
        "shaping/provider/google.toml",
        include_str!("../../../shaping/provider/google.toml"),
    ),
    (
        "shaping/provider/mimecast.toml",
        include_str!("../../../shaping/provider/mimecast.toml"),
    ),
    (
        "shaping/provider/netease.toml",
        include_str!("../../../shaping/provider/netease.toml"),
    ),
    (
        "shaping/provider/office365.toml",
        include_str!("../../../shaping/provider/office365.toml"),
    ),
    (
        "shaping/provider/office365-dane.toml",
        include_str!("../../../shaping/provider/office365-dane.toml"),
    ),
    (
        "shaping/provider/orange.toml",
        include_str!("../../../shaping/provider/orange.toml"),
    ),
    (
        "shaping/provider/outlook.toml",
        include_str!("../../../shaping/provider/outlook.toml"),
    ),
    (
        "shaping/provider/proofpoint.toml",
        include_str!("../../../shaping/provider/proofpoint.toml"),
    ),
    (
        "shaping/provider/qq.toml",
        include_str!("../../../shaping/provider/qq.toml"),
    ),
    (
        "shaping/provider/spectrum.toml",
        include_str!("../../../shaping/provider/spectrum.toml"),
    ),
    (
        "shaping/provider/yahoo.toml",
        include_str!("../../../shaping/provider/yahoo.toml"),
    ),
    (
        "shaping/provider/yahoo-japan.toml",
        include_str!("../../../shaping/provider/yahoo-japan.toml"),
    ),
];

/// The providers we ship, to be read before the operator's own files.
pub fn shipped<'t>() -> impl Iterator<Item = File<'t>> {
    PROVIDERS.iter().map(|(name, text)| File {
        name,
        text,
        layer: Layer::Shipped,
    })
}
