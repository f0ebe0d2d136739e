package dtdl

import (
	"slices"
	"strings"
)

// The semantic types of DTDL v2 and the unit type of each (FEATURES.md DTDL-10).
var semanticTypes = map[string]string{
	"Acceleration":        "AccelerationUnit",
	"Angle":               "AngleUnit",
	"AngularAcceleration": "AngularAccelerationUnit",
	"AngularVelocity":     "AngularVelocityUnit",
	"Area":                "AreaUnit",
	"Capacitance":         "CapacitanceUnit",
	"Current":             "CurrentUnit",
	"DataRate":            "DataRateUnit",
	"DataSize":            "DataSizeUnit",
	"Density":             "DensityUnit",
	"Distance":            "LengthUnit",
	"ElectricCharge":      "ChargeUnit",
	"Energy":              "EnergyUnit",
	"Force":               "ForceUnit",
	"Frequency":           "FrequencyUnit",
	"Humidity":            "DensityUnit",
	"Illuminance":         "IlluminanceUnit",
	"Inductance":          "InductanceUnit",
	"Latitude":            "AngleUnit",
	"Length":              "LengthUnit",
	"Longitude":           "AngleUnit",
	"Luminance":           "LuminanceUnit",
	"Luminosity":          "PowerUnit",
	"LuminousFlux":        "LuminousFluxUnit",
	"LuminousIntensity":   "LuminousIntensityUnit",
	"MagneticFlux":        "MagneticFluxUnit",
	"MagneticInduction":   "MagneticInductionUnit",
	"Mass":                "MassUnit",
	"MassFlowRate":        "MassFlowRateUnit",
	"Power":               "PowerUnit",
	"Pressure":            "PressureUnit",
	"RelativeHumidity":    "Unitless",
	"Resistance":          "ResistanceUnit",
	"SoundPressure":       "SoundPressureUnit",
	"Temperature":         "TemperatureUnit",
	"Thrust":              "ForceUnit",
	"TimeSpan":            "TimeUnit",
	"Torque":              "TorqueUnit",
	"Velocity":            "VelocityUnit",
	"Voltage":             "VoltageUnit",
	"Volume":              "VolumeUnit",
	"VolumeFlowRate":      "VolumeFlowRateUnit",
}

// What DTDL v3's extension quantitativeTypes has besides.
var semanticTypes3 = map[string]string{
	"ApparentEnergy":        "ApparentEnergyUnit",
	"ApparentPower":         "ApparentPowerUnit",
	"Concentration":         "Unitless",
	"EnergyRate":            "PowerUnit",
	"IonizingRadiationDose": "IonizingRadiationDoseUnit",
	"Irradiance":            "IrradianceUnit",
	"Radioactivity":         "RadioactivityUnit",
	"ReactiveEnergy":        "ReactiveEnergyUnit",
	"ReactivePower":         "ReactivePowerUnit",
	"RelativeDensity":       "Unitless",
}

// The units of each unit type of DTDL v2 (§Semantic Type), by name.
var units = map[string][]string{
	"AccelerationUnit":        words("centimetrePerSecondSquared gForce metrePerSecondSquared"),
	"AngleUnit":               words("degreeOfArc minuteOfArc radian secondOfArc turn"),
	"AngularAccelerationUnit": words("radianPerSecondSquared"),
	"AngularVelocityUnit":     words("degreePerSecond radianPerSecond revolutionPerMinute revolutionPerSecond"),
	"AreaUnit":                words("acre hectare squareCentimetre squareFoot squareInch squareKilometre squareMetre squareMillimetre"),
	"CapacitanceUnit":         words("farad microfarad millifarad nanofarad picofarad"),
	"CurrentUnit":             words("ampere microampere milliampere"),
	"DataRateUnit": words("bitPerSecond bytePerSecond exbibitPerSecond exbibytePerSecond gibibitPerSecond gibibytePerSecond " +
		"kibibitPerSecond kibibytePerSecond mebibitPerSecond mebibytePerSecond tebibitPerSecond " +
		"tebibytePerSecond yobibitPerSecond yobibytePerSecond zebibitPerSecond zebibytePerSecond"),
	"DataSizeUnit": words("bit byte exbibit exbibyte gibibit gibibyte kibibit kibibyte mebibit mebibyte tebibit tebibyte " +
		"yobibit yobibyte zebibit zebibyte"),
	"DensityUnit": words("gramPerCubicMetre kilogramPerCubicMetre"),
	"LengthUnit": words("astronomicalUnit centimetre foot inch kilometre metre micrometre mile millimetre nanometre " +
		"nauticalMile"),
	"ChargeUnit":            words("coulomb"),
	"EnergyUnit":            words("electronvolt gigajoule joule kilojoule kilowattHour megaelectronvolt megajoule"),
	"ForceUnit":             words("newton ounce pound ton"),
	"FrequencyUnit":         words("gigahertz hertz kilohertz megahertz"),
	"IlluminanceUnit":       words("footcandle lux"),
	"InductanceUnit":        words("henry microhenry millihenry"),
	"LuminanceUnit":         words("candelaPerSquareMetre"),
	"PowerUnit":             words("gigawatt horsepower kilowatt kilowattHourPerYear megawatt microwatt milliwatt watt"),
	"LuminousFluxUnit":      words("lumen"),
	"LuminousIntensityUnit": words("candela"),
	"MagneticFluxUnit":      words("maxwell weber"),
	"MagneticInductionUnit": words("tesla"),
	"MassUnit":              words("gram kilogram microgram milligram slug tonne"),
	"MassFlowRateUnit":      words("gramPerHour gramPerSecond kilogramPerHour kilogramPerSecond"),
	"PressureUnit":          words("bar inchesOfMercury inchesOfWater kilopascal millibar millimetresOfMercury pascal poundPerSquareInch"),
	"Unitless":              words("percent unity"),
	"ResistanceUnit":        words("kiloohm megaohm milliohm ohm"),
	"SoundPressureUnit":     words("bel decibel"),
	"TemperatureUnit":       words("degreeCelsius degreeFahrenheit kelvin"),
	"TimeUnit":              words("day hour microsecond millisecond minute nanosecond second year"),
	"TorqueUnit":            words("newtonMetre"),
	"VelocityUnit": words("centimetrePerSecond kilometrePerHour kilometrePerSecond knot metrePerHour metrePerSecond milePerHour " +
		"milePerSecond"),
	"VoltageUnit":        words("kilovolt megavolt microvolt millivolt volt"),
	"VolumeUnit":         words("cubicCentimetre cubicFoot cubicInch cubicMetre fluidOunce gallon litre millilitre"),
	"VolumeFlowRateUnit": words("litrePerHour litrePerSecond millilitrePerHour millilitrePerSecond"),
}

// What DTDL v3's extension quantitativeTypes has besides.
var units3 = map[string][]string{
	"ApparentEnergyUnit": words("gigavoltAmpereHour kilovoltAmpereHour megavoltAmpereHour voltAmpereHour"),
	"ApparentPowerUnit":  words("gigavoltAmpere kilovoltAmpere megavoltAmpere millivoltAmpere voltAmpere"),
	"Unitless":           words("partsPerBillion partsPerMillion partsPerQuadrillion partsPerTrillion"),
	"CurrentUnit":        words("kiloampere"),
	"DensityUnit":        words("microgramPerCubicMetre milligramPerCubicMetre"),
	"ChargeUnit":         words("ampereHour milliampereHour"),
	"EnergyUnit": words("britishThermalUnit gigawattHour kiloBritishThermalUnit megawattHour milliwattHour terawattHour " +
		"wattHour"),
	"PowerUnit": words("britishThermalUnitPerHour gigajoulePerHour joulePerHour joulePerSecond kiloBritishThermalUnitPerHour " +
		"kilojoulePerHour kilojoulePerSecond megajoulePerHour tonOfRefrigeration"),
	"FrequencyUnit":             words("millihertz"),
	"IonizingRadiationDoseUnit": words("gray microgray microsievert milligray millisievert sievert"),
	"IrradianceUnit":            words("wattPerSquareMetre"),
	"MagneticInductionUnit":     words("gauss"),
	"MassUnit":                  words("massPound"),
	"MassFlowRateUnit":          words("massPoundPerHour"),
	"PressureUnit":              words("decapascal hectopascal"),
	"RadioactivityUnit":         words("becquerel gigabecquerel kilobecquerel megabecquerel"),
	"ReactiveEnergyUnit": words("gigavoltAmpereReactiveHour kilovoltAmpereReactiveHour megavoltAmpereReactiveHour " +
		"voltAmpereReactiveHour"),
	"ReactivePowerUnit": words("gigavoltAmpereReactive kilovoltAmpereReactive megavoltAmpereReactive millivoltAmpereReactive " +
		"voltAmpereReactive"),
	"VolumeFlowRateUnit": words("cubicFootPerMinute cubicMetrePerHour cubicMetrePerMinute cubicMetrePerSecond gallonPerHour " +
		"gallonPerMinute litrePerMinute millilitrePerMinute"),
}

func words(s string) []string { return strings.Fields(s) }

// unitType is that of a semantic type; empty when the language knows no such type.
func (l language) unitType(semantic string) string {
	if l.version > 2 && !l.quantitative {
		return ""
	}
	unit := semanticTypes[semantic]
	if unit == "" && l.version > 2 {
		unit = semanticTypes3[semantic]
	}
	return unit
}

// unitsOf are the units of a unit type.
func (l language) unitsOf(unitType string) []string {
	if l.version == 2 {
		return units[unitType]
	}
	all := slices.Concat(units[unitType], units3[unitType])
	slices.Sort(all)
	return all
}
