package sample

import "github.com/fleetlog/fleetlog/internal/dtdl"

// place is a value of one of the schemas of places and directions. It starts near
// Zürich and walks on from where it was.
func (m *maker) place(kind dtdl.SchemaKind, previous any) any {
	before, _ := previous.(map[string]any)
	switch kind {
	case dtdl.Geopoint:
		return map[string]any{
			"lat": m.semantic("Latitude", before["lat"]),
			"lon": m.semantic("Longitude", before["lon"]),
		}
	case dtdl.Vector:
		return map[string]any{
			"x": m.semantic("Acceleration", before["x"]),
			"y": m.semantic("Acceleration", before["y"]),
			"z": m.semantic("Acceleration", before["z"]),
		}
	}
	return m.geometry(kind, before)
}

func (m *maker) semantic(semantic string, previous any) any {
	return m.number(dtdl.Double, measure{semantic: semantic}, previous)
}

// geometry is a GeoJSON geometry: points walk, lines and areas start where they were.
func (m *maker) geometry(kind dtdl.SchemaKind, before map[string]any) any {
	lon, lat := m.start(before["coordinates"])
	point := []any{lon, lat}
	line := []any{point, []any{lon + 0.01, lat}, []any{lon + 0.01, lat + 0.01}}
	ring := []any{point, line[1], line[2], point}
	switch kind {
	case dtdl.Point:
		return geometry("Point", point)
	case dtdl.MultiPoint:
		return geometry("MultiPoint", []any{point, line[1]})
	case dtdl.LineString:
		return geometry("LineString", line)
	case dtdl.MultiLineString:
		return geometry("MultiLineString", []any{line})
	case dtdl.Polygon:
		return geometry("Polygon", []any{ring})
	}
	return geometry("MultiPolygon", []any{[]any{ring}})
}

func geometry(name string, coordinates []any) any {
	return map[string]any{"type": name, "coordinates": coordinates}
}

// start is the first position of a geometry a step further; RFC 7946 has the
// longitude first.
func (m *maker) start(coordinates any) (lon, lat float64) {
	var oldLon, oldLat any
	for depth := 0; depth < 4; depth++ {
		items, ok := coordinates.([]any)
		if !ok || len(items) == 0 {
			break
		}
		if _, ok := number(items[0]); ok && len(items) > 1 {
			oldLon, oldLat = items[0], items[1]
			break
		}
		coordinates = items[0]
	}
	return m.semantic("Longitude", oldLon).(float64), m.semantic("Latitude", oldLat).(float64)
}
