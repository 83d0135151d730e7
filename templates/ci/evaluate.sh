version=$(cat .emberline/ci/version)
code=0
"${EMBERLINE_BIN:-emberline}" evaluate --bundle "$version" -o json --progress plain > .emberline/ci/evaluate.json ||
  code=$?
if [ "$code" -eq 3 ]; then
  echo "The gate failed: version $version is neither packaged nor deployed. evaluate.json has every figure."
fi
exit "$code"
