package views

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
)

// ofFamily ends the names of views beside a family's first one.
var ofFamily = regexp.MustCompile(`_(?:v\d+|devices)$`)

// name gives each family the name of its views: the one it has in ClickHouse already,
// so that a template that is called otherwise keeps it; else what it is called. A name
// that is another's, or could be that of another's further view, gets a digest of the
// template's id.
func name(families []*versions, there map[string]string, reserved []view) map[string]string {
	given, taken := map[string]string{}, map[string]bool{}
	for _, v := range reserved {
		taken[v.name] = true
	}
	kept := make([]string, 0, len(there))
	for view := range there {
		kept = append(kept, view)
	}
	slices.Sort(kept)
	for _, view := range kept {
		if of := there[view]; of != "" && given[of] == "" && !ofFamily.MatchString(view) && !taken[view] {
			given[of], taken[view] = view, true
		}
	}
	slices.SortFunc(families, func(a, b *versions) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.id, b.id)) })
	for _, f := range families {
		if given[f.id] != "" {
			continue
		}
		called := cmp.Or(slug(f.byNumber[f.newest].DisplayName), slug(f.id[strings.LastIndexByte(f.id, ':')+1:]))
		if taken[called] || ofFamily.MatchString(called) {
			sum := sha256.Sum256([]byte(f.id))
			called += "_" + hex.EncodeToString(sum[:3])
		}
		given[f.id], taken[called] = called, true
	}
	return given
}
