rm -rf .emberline/ci && mkdir -p .emberline/ci
"${EMBERLINE_BIN:-emberline}" train -o json --progress plain > .emberline/ci/train.json
# The later stages name this version: what was measured is what is packaged and deployed.
grep '"version"' .emberline/ci/train.json | cut -d '"' -f 4 > .emberline/ci/version
