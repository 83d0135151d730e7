version=$(cat .emberline/ci/version)
"${EMBERLINE_BIN:-emberline}" package --bundle "$version" --builder oci -o json --progress plain > .emberline/ci/package.json
