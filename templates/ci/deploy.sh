version=$(cat .emberline/ci/version)
{%- if target == "kubernetes" %}
folder=.
EMBERLINE_IMAGE=$(cat .emberline/ci/image)
export EMBERLINE_IMAGE
{%- else %}
# The service outlives this job and its working folder, so it is deployed from a folder that stays.
folder=${EMBERLINE_DEPLOY_DIR:-$HOME/emberline/{{ name }}}
mkdir -p "$folder/.emberline/bundles"
cp emberline*.yaml "$folder/"
[ ! -d templates ] || cp -R templates "$folder/"
cp -R .emberline/bundles/"$version"* "$folder/.emberline/bundles/"
{%- endif %}
for try in 1 2 3 4 5 6 7 8 9 10; do
  code=0
  "${EMBERLINE_BIN:-emberline}" deploy "$folder" --bundle "$version" -o json --progress plain > .emberline/ci/deploy.json ||
    code=$?
  if [ "$code" -ne 6 ] || [ "$try" -eq 10 ]; then break; fi
  echo "Another deploy holds the lock: try $try of 10, the next one in 30 seconds."
  sleep 30
done
case "$code" in
  4) echo "The deploy failed and was rolled back: the former version serves." ;;
  5) echo "THE DEPLOY FAILED, AND THERE WAS NOTHING TO GO BACK TO. emberline status $folder" ;;
  6) echo "Another deploy still holds the lock: version $version was not deployed." ;;
esac
exit "$code"
