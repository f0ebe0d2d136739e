package devices

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheBarSaysHowFarItIs(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    operation
		want string
	}{
		{"not counted yet", operation{Type: "import", Status: "pending"}, "import: pending"},
		{"begun", operation{Type: "import", Status: "running", Total: 10}, "import: [..............................]   0 %  0/10  0/s  failed 0"},
		{"half", operation{Type: "import", Status: "running", Total: 10, Succeeded: 4, Failed: 1}, "import: [###############...............]  50 %  5/10  2/s  failed 1"},
		{"done", operation{Type: "export", Status: "completed", Total: 10, Succeeded: 10}, "export: [##############################] 100 %  10/10  5/s  failed 0"},
	} {
		t.Run(tc.name, func(t *testing.T) { require.Equal(t, tc.want, bar(tc.o, 2*time.Second)) })
	}
}

// TestTheReportIsShownSafely shows the beginning of a report, and nothing of it that
// a terminal would obey.
func TestTheReportIsShownSafely(t *testing.T) {
	report := filepath.Join(t.TempDir(), "errors.csv")
	content := "line,IOTC_DEVICEID,code,message\n2,\"a\x1b[2Jb\",InvalidId,no\n,none,NotFound,gone\n4,x,y,z\n5,x,y,z\n"
	require.NoError(t, os.WriteFile(report, []byte(content), 0o600))
	var out strings.Builder
	require.NoError(t, show(&out, report, 2))
	require.Equal(t, "  line 2  a [2Jb  InvalidId: no\n  line -  none  NotFound: gone\n  … more in "+report+"\n", out.String())
}
