package dtdl

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestBrokenDocumentsAreRefusedWithAllThatIsWrong(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.json")
	require.NoError(t, err)
	require.Greater(t, len(files), 60)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			document, err := os.ReadFile(file)
			require.NoError(t, err)
			model, err := Parse(document)
			require.Nil(t, model)
			var problems Problems
			require.True(t, errors.As(err, &problems), "the document should be refused")
			golden := strings.TrimSuffix(file, ".json") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(text(problems)), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), text(problems))
		})
	}
}

func text(problems Problems) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%s\n  %s\n  %s\n", p.Path, p.Rule, p.Message)
	}
	return b.String()
}
