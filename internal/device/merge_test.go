package device

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// hardJSON is what readers of JSON differ in.
var hardJSON = []string{
	``, `{}`, ` { } `, `null`, `[]`, `1`, `{"a":1}`, `{"a":null}`, `{"a":{"b":null,"c":1}}`, `{"a":{"b":{}}}`, `{"b":1,"a":2}`, `{"a":1,"a":2}`,
	`{"a":{"b":1},"a":{"c":2}}`, `{"a":99999999999999999999,"a":1}`, `{"a":1e400}`, `{"a":-0}`, `{"a":1.50e+3}`, `{"a":01}`, `{"a":.5}`, `{"a":-}`, `{"a":1.}`,
	`{"a":4503599627370496}`, `{"a":4503599627370497}`, `{"a":-4503599627370497}`, `{"a":"\u00e4\ud83d\ude00\ud800"}`, "{\"a\":\"\xff\"}", "{\"\xff\":1}",
	`{"a":"\u2028\u2029<>&\u007f\u0000\b\f\n\r\t\"\\\/"}`, "{\"a\":\"\u2028\u2029\u20aa\"}", `{"a\"b":1,"a\\b":2,"\u00e4":3}`, `{"\ud800":1}`, `{"a.b":1}`, `{"$a":1}`, `{"a b":1}`, `{"":1}`,
	`{"a":[1,{"b":null,"a":[]},"x"]}`, `{"a":[[[[[[[[[[1]]]]]]]]]]}`, `{"a":[[[[[[[[[1]]]]]]]]]}`, `{"a":tru}`, `{"a":true}x`, `{"a":1}{}`, `{"a":1,}`, `{"a" 1}`, `{"a":`, `{"a":"`, `{a:1}`,
	"{\"a\":\"\n\"}", `{"a":"\x"}`, `{"a":"\u12"}`, "\ufeff{}", `{"a":{"__t":"c","b":1}}`,
	`{"a":` + strings.Repeat(`{"a":`, 8) + `{}` + strings.Repeat(`}`, 9), `{"a":` + strings.Repeat(`{"a":`, 9) + `{}` + strings.Repeat(`}`, 10),
	`{"a":"` + strings.Repeat("x", maxPropertyValue) + `"}`, `{"a":"` + strings.Repeat("x", maxPropertyValue+1) + `"}`, `{"` + strings.Repeat("x", maxPropertyKey+1) + `":1}`,
	`{"a":` + strings.Repeat(`[`, maxNesting-1) + strings.Repeat(`]`, maxNesting-1) + `}`, `{"a":` + strings.Repeat(`[`, maxNesting) + strings.Repeat(`]`, maxNesting) + `}`,
	`{"a":` + strings.Repeat(`[`, maxNesting-1) + `1` + strings.Repeat(`]`, maxNesting-1) + `,"a":1}`,
}

// sameAsMaps requires that bytes in, bytes out, the merge does what the one over
// maps does.
func sameAsMaps(t require.TestingT, object, patch []byte) {
	want, wantErr := mergePatchOfMaps(object, patch)
	got, err := MergePatch(object, patch)
	require.Equal(t, wantErr == nil, err == nil, "%q + %q: %v, want %v", object, patch, err, wantErr)
	if err == nil {
		require.Equal(t, string(want), string(got), "%q + %q", object, patch)
		again, err := MergePatch(got, patch)
		require.NoError(t, err)
		require.Equal(t, string(got), string(again), "a merge patch applied twice is the same as once")
	}
	want, wantErr = diffPatchOfMaps(object, patch)
	got, err = DiffPatch(object, patch)
	require.Equal(t, wantErr == nil, err == nil, "%q - %q: %v, want %v", object, patch, err, wantErr)
	if err == nil {
		require.Equal(t, string(want), string(got), "%q - %q", object, patch)
	}
}

func TestMergePatchIsThatOfMaps(t *testing.T) {
	for _, object := range hardJSON {
		for _, patch := range hardJSON {
			sameAsMaps(t, []byte(object), []byte(patch))
		}
	}
}

// TestMergePatchesOfObjectsAreThoseOfMaps is about what devices send.
func TestMergePatchesOfObjectsAreThoseOfMaps(t *testing.T) {
	name := rapid.SampledFrom([]string{"a", "b", "ä", `a\"b`, "__t", "aa", "a-b"})
	var object func(t *rapid.T, depth int) string
	object = func(t *rapid.T, depth int) string {
		var members []string
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			var value string
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				value = "null"
			case 1:
				value = rapid.SampledFrom([]string{"1", "-2.5e3", "true", `"c"`, `"\u00e4"`, "[]", `[1, {"b":null}]`, `""`}).Draw(t, "scalar")
			default:
				if value = `"x"`; depth < 4 {
					value = object(t, depth+1)
				}
			}
			members = append(members, `"`+name.Draw(t, "name")+`" : `+value)
		}
		return "{" + strings.Join(members, " ,") + "}"
	}
	rapid.Check(t, func(t *rapid.T) { sameAsMaps(t, []byte(object(t, 0)), []byte(object(t, 0))) })
}

func FuzzMergePatch(f *testing.F) {
	for i, object := range hardJSON {
		f.Add([]byte(object), []byte(hardJSON[(i*7+3)%len(hardJSON)]))
	}
	f.Fuzz(func(t *testing.T, object, patch []byte) {
		sameAsMaps(t, object, patch)
		if changes, err := readPatch(patch); err == nil {
			_, _ = mergeInto(object, changes) // whatever it is, it does no harm
		}
	})
}

func TestAComponentsDifferenceSaysThatItIsOne(t *testing.T) {
	patch, err := DiffPatch([]byte(`{"c":{"__t":"c","a":1,"b":2},"o":{"a":1}}`), []byte(`{"c":{"__t":"c","a":3},"o":{"a":2}}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"c":{"__t":"c","a":3,"b":null},"o":{"a":2}}`, string(patch))
}
