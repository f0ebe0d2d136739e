package dtdl

import _ "embed"

// deviceInformation is the interface that Plug and Play devices have to say what
// they are (github.com/Azure/iot-plugandplay-models, dtmi/azure/devicemanagement).
//
//go:embed deviceinformation-1.json
var deviceInformation []byte

const deviceInformationID = "dtmi:azure:DeviceManagement:DeviceInformation;1"

// wellKnown is an interface that documents may refer to without having it; nil
// when it is none.
func (p *parser) wellKnown(id string) *node {
	if id != deviceInformationID {
		return nil
	}
	n, err := readDocument(deviceInformation, "$", p.problem)
	if err != nil {
		return nil
	}
	p.sources[id] = n
	return n
}
