//! The files that `emberline init` writes, embedded: whole projects from examples/, which are tested as they are.

/// A project that `init` can write.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// As `--template` takes it.
    pub name: &'static str,
    /// Paths inside the project, with the content of each file.
    pub files: &'static [(&'static str, &'static [u8])],
}

/// All of them; the first is the default.
pub const ALL: [Template; 3] = [
    Template {
        name: "digits",
        files: &[
            ("emberline.yaml", include_bytes!("../examples/digits/emberline.yaml")),
            (
                "real-images-idx3-ubyte.gz",
                include_bytes!("../examples/digits/real-images-idx3-ubyte.gz"),
            ),
            (
                "real-labels-idx1-ubyte.gz",
                include_bytes!("../examples/digits/real-labels-idx1-ubyte.gz"),
            ),
            ("seven.png", include_bytes!("../examples/digits/seven.png")),
            ("request.json", include_bytes!("../examples/digits/request.json")),
            ("CREDITS.md", include_bytes!("../examples/digits/CREDITS.md")),
        ],
    },
    Template {
        name: "mnist",
        files: &[("emberline.yaml", include_bytes!("../examples/mnist/emberline.yaml"))],
    },
    Template {
        name: "tabular",
        files: &[
            ("emberline.yaml", include_bytes!("../examples/tabular/emberline.yaml")),
            ("penguins.csv", include_bytes!("../examples/tabular/penguins.csv")),
            ("CREDITS.md", include_bytes!("../examples/tabular/CREDITS.md")),
        ],
    },
];
