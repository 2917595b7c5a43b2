# Numbers, their squares, and a check of both. The token lives in memory only.
token=$RANDOM$RANDOM$RANDOM
n=0
while :; do
  n=$((n + 1))
  echo "$n"
  sleep 0.005
done | while read -r n; do
  echo "$n $((n * n))"
done | tee /last | (
  expected=1 wrong=0
  while read -r n square; do
    ((n == expected && square == n * n)) || wrong=$((wrong + 1))
    expected=$((n + 1))
    echo "$token $n $wrong" >/state.new
    mv /state.new /state
  done
)
