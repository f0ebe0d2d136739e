package dtdl

// semantics are the semantic types with the unit type of each: DTDL v2 §Semantic
// types, and v3's extension quantitativeTypes §Quantities.
var semantics = map[string]string{
	"Acceleration": "AccelerationUnit", "Angle": "AngleUnit", "AngularAcceleration": "AngularAccelerationUnit",
	"AngularVelocity": "AngularVelocityUnit", "ApparentEnergy": "ApparentEnergyUnit", "ApparentPower": "ApparentPowerUnit",
	"Area": "AreaUnit", "Capacitance": "CapacitanceUnit", "Concentration": "Unitless", "Current": "CurrentUnit",
	"DataRate": "DataRateUnit", "DataSize": "DataSizeUnit", "Density": "DensityUnit", "Distance": "LengthUnit",
	"ElectricCharge": "ChargeUnit", "Energy": "EnergyUnit", "EnergyRate": "EnergyRateUnit", "Force": "ForceUnit",
	"Frequency": "FrequencyUnit", "Humidity": "DensityUnit", "Illuminance": "IlluminanceUnit", "Inductance": "InductanceUnit",
	"Irradiance": "IrradianceUnit", "Latitude": "AngleUnit", "Length": "LengthUnit", "Longitude": "AngleUnit",
	"Luminance": "LuminanceUnit", "Luminosity": "PowerUnit", "LuminousFlux": "LuminousFluxUnit",
	"LuminousIntensity": "LuminousIntensityUnit", "MagneticFlux": "MagneticFluxUnit", "MagneticInduction": "MagneticInductionUnit",
	"Mass": "MassUnit", "MassFlowRate": "MassFlowRateUnit", "Power": "PowerUnit", "Pressure": "PressureUnit",
	"ReactiveEnergy": "ReactiveEnergyUnit", "ReactivePower": "ReactivePowerUnit", "RelativeDensity": "Unitless",
	"RelativeHumidity": "Unitless", "Resistance": "ResistanceUnit", "Scalar": "Unitless", "SoundPressure": "SoundPressureUnit",
	"Temperature": "TemperatureUnit", "Thrust": "ForceUnit", "TimeSpan": "TimeUnit", "Torque": "TorqueUnit",
	"Velocity": "VelocityUnit", "Voltage": "VoltageUnit", "Volume": "VolumeUnit", "VolumeFlowRate": "VolumeFlowRateUnit",
}

// onlyV3 are the semantic types that DTDL v2 does not have.
var onlyV3 = map[string]bool{
	"ApparentEnergy": true, "ApparentPower": true, "Concentration": true, "EnergyRate": true, "Irradiance": true,
	"ReactiveEnergy": true, "ReactivePower": true, "RelativeDensity": true, "Scalar": true,
}

// units are the units of each unit type.
var units = map[string][]string{
	"AccelerationUnit":        {"metrePerSecondSquared", "centimetrePerSecondSquared", "gForce"},
	"AngleUnit":               {"radian", "degreeOfArc", "minuteOfArc", "secondOfArc", "turn"},
	"AngularAccelerationUnit": {"radianPerSecondSquared"},
	"AngularVelocityUnit":     {"radianPerSecond", "degreePerSecond", "revolutionPerSecond", "revolutionPerMinute"},
	"ApparentEnergyUnit":      {"voltAmpereHour", "kilovoltAmpereHour"},
	"ApparentPowerUnit":       {"voltAmpere", "millivoltAmpere", "kilovoltAmpere", "megavoltAmpere"},
	"AreaUnit":                {"squareMetre", "squareCentimetre", "squareMillimetre", "squareKilometre", "hectare", "squareFoot", "squareInch", "acre"},
	"CapacitanceUnit":         {"farad", "millifarad", "microfarad", "nanofarad", "picofarad"},
	"ChargeUnit":              {"coulomb"},
	"CurrentUnit":             {"ampere", "microampere", "milliampere"},
	"DataRateUnit":            {"bitPerSecond", "kibibitPerSecond", "mebibitPerSecond", "gibibitPerSecond", "tebibitPerSecond", "exbibitPerSecond", "zebibitPerSecond", "yobibitPerSecond", "bytePerSecond", "kibibytePerSecond", "mebibytePerSecond", "gibibytePerSecond", "tebibytePerSecond", "exbibytePerSecond", "zebibytePerSecond", "yobibytePerSecond"},
	"DataSizeUnit":            {"bit", "kibibit", "mebibit", "gibibit", "tebibit", "exbibit", "zebibit", "yobibit", "byte", "kibibyte", "mebibyte", "gibibyte", "tebibyte", "exbibyte", "zebibyte", "yobibyte"},
	"DensityUnit":             {"kilogramPerCubicMetre", "gramPerCubicMetre"},
	"EnergyUnit":              {"joule", "kilojoule", "megajoule", "gigajoule", "electronvolt", "megaelectronvolt", "kilowattHour"},
	"EnergyRateUnit":          {"gigajoulePerHour"},
	"ForceUnit":               {"newton", "pound", "ounce", "ton"},
	"FrequencyUnit":           {"hertz", "kilohertz", "megahertz", "gigahertz"},
	"IlluminanceUnit":         {"lux", "footcandle"},
	"InductanceUnit":          {"henry", "millihenry", "microhenry"},
	"IrradianceUnit":          {"wattPerSquareMetre"},
	"LengthUnit":              {"metre", "centimetre", "millimetre", "micrometre", "nanometre", "kilometre", "foot", "inch", "mile", "nauticalMile", "astronomicalUnit"},
	"LuminanceUnit":           {"candelaPerSquareMetre"},
	"LuminousFluxUnit":        {"lumen"},
	"LuminousIntensityUnit":   {"candela"},
	"MagneticFluxUnit":        {"weber", "maxwell"},
	"MagneticInductionUnit":   {"tesla"},
	"MassUnit":                {"kilogram", "gram", "milligram", "microgram", "tonne", "slug"},
	"MassFlowRateUnit":        {"gramPerSecond", "kilogramPerSecond", "gramPerHour", "kilogramPerHour"},
	"PowerUnit":               {"watt", "microwatt", "milliwatt", "kilowatt", "megawatt", "gigawatt", "horsepower", "kilowattHourPerYear"},
	"PressureUnit":            {"pascal", "kilopascal", "bar", "millibar", "millimetresOfMercury", "poundPerSquareInch", "inchesOfMercury", "inchesOfWater"},
	"ReactiveEnergyUnit":      {"voltAmpereReactiveHour", "kilovoltAmpereReactiveHour"},
	"ReactivePowerUnit":       {"voltAmpereReactive", "millivoltAmpereReactive", "kilovoltAmpereReactive", "megavoltAmpereReactive"},
	"ResistanceUnit":          {"ohm", "milliohm", "kiloohm", "megaohm"},
	"SoundPressureUnit":       {"decibel", "bel"},
	"TemperatureUnit":         {"kelvin", "degreeCelsius", "degreeFahrenheit"},
	"TimeUnit":                {"second", "millisecond", "microsecond", "nanosecond", "minute", "hour", "day", "year"},
	"TorqueUnit":              {"newtonMetre"},
	"Unitless":                {"unity", "percent", "partsPerMillion", "partsPerBillion", "partsPerTrillion", "partsPerQuadrillion"},
	"VelocityUnit":            {"metrePerSecond", "centimetrePerSecond", "kilometrePerSecond", "metrePerHour", "kilometrePerHour", "milePerHour", "milePerSecond", "knot"},
	"VoltageUnit":             {"volt", "millivolt", "microvolt", "kilovolt", "megavolt"},
	"VolumeUnit":              {"cubicMetre", "cubicCentimetre", "litre", "millilitre", "cubicFoot", "cubicInch", "fluidOunce", "gallon"},
	"VolumeFlowRateUnit":      {"litrePerSecond", "millilitrePerSecond", "litrePerHour", "millilitrePerHour", "cubicMetrePerHour", "cubicFootPerMinute", "gallonPerMinute", "gallonPerHour"},
}

// measures are IoT Central's types of vectors with the unit type of each
// (FEATURES.md DTDL-12).
var measures = map[string]string{"VelocityVector": "VelocityUnit", "AccelerationVector": "AccelerationUnit"}
