package dtdl

// builtIn is an interface that models refer to without bringing it along; nil when it
// is none of these.
func (p *parser) builtIn(id string) *Interface {
	document, ok := builtIns[id]
	if !ok {
		return nil
	}
	return p.read(read([]byte(document), id, p.found), []byte(document), language{})
}

// builtIns are IoT Plug and Play's own interfaces, by id. The names of what a device
// tells of itself are a convention that all SDKs keep.
var builtIns = map[string]string{
	"dtmi:azure:DeviceManagement:DeviceInformation;1": `{
		"@context": "dtmi:dtdl:context;2",
		"@id": "dtmi:azure:DeviceManagement:DeviceInformation;1",
		"@type": "Interface",
		"displayName": "Device information",
		"contents": [
			{"@type": "Property", "name": "manufacturer", "displayName": "Manufacturer", "schema": "string",
				"description": "The company that made the device."},
			{"@type": "Property", "name": "model", "displayName": "Device model", "schema": "string",
				"description": "The name or number of the device's model."},
			{"@type": "Property", "name": "swVersion", "displayName": "Software version", "schema": "string",
				"description": "The version of the software or firmware on the device."},
			{"@type": "Property", "name": "osName", "displayName": "Operating system", "schema": "string",
				"description": "The operating system on the device."},
			{"@type": "Property", "name": "processorArchitecture", "displayName": "Processor architecture", "schema": "string",
				"description": "The architecture of the processor, such as arm64."},
			{"@type": "Property", "name": "processorManufacturer", "displayName": "Processor manufacturer", "schema": "string",
				"description": "The company that made the processor."},
			{"@type": "Property", "name": "totalStorage", "displayName": "Total storage", "schema": "double",
				"description": "The device's storage in kilobytes."},
			{"@type": "Property", "name": "totalMemory", "displayName": "Total memory", "schema": "double",
				"description": "The device's memory in kilobytes."}
		]
	}`,
}
