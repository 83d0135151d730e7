version=$(cat .emberline/ci/version)
report=.emberline/ci/package.json
{%- if target == "kubernetes" %}
# To the registry of `package.repository`, with the credentials of `docker login`.
"${EMBERLINE_BIN:-emberline}" package --bundle "$version" --builder oci --push -o json --progress plain > "$report"
# The deploy stage names the image by its digest: what was pushed here is what runs.
image=$(grep -m 1 '"image"' "$report" | cut -d '"' -f 4)
digest=$(grep -m 1 '"digest"' "$report" | cut -d '"' -f 4)
echo "$image@$digest" > .emberline/ci/image
{%- else %}
"${EMBERLINE_BIN:-emberline}" package --bundle "$version" --builder {% if target == "docker" %}docker{% else %}oci{% endif %} -o json --progress plain > "$report"
{%- endif %}
