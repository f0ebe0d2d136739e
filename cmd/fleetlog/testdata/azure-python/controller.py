"""A Plug and Play temperature controller with two thermostats on Azure's own SDK for Python, for
the end-to-end test.

    controller.py CONFIG_JSON

It behaves as the SDK's sample of a temperature controller with thermostats does (its model is
dtmi:com:example:TemperatureController;2), takes the configuration of device.py, and says the same
things as ../azure-node/controller.js.
"""

import datetime
import json
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "site"))

import paho.mqtt.client as paho
from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse

config = json.loads(sys.argv[1])
ports = {8883: config["mqttsPort"], 443: config["httpsPort"]}
dial = paho.Client.connect
paho.Client.connect = lambda self, host, port=1883, **rest: dial(self, host, port=ports[port], **rest)

thermostats = {"thermostat1": (20, 18), "thermostat2": (30, 25)}
writing = threading.Lock()


def say(**what):
    with writing:
        print(json.dumps(what), flush=True)


def component(name, properties):
    return {name: {"__t": "c", **properties}}


def answer(name, payload):
    part, _, command = name.rpartition("*")
    if part == "" and command == "reboot":
        return 200, {}
    if part in thermostats and command == "getMaxMinReport":
        highest, lowest = thermostats[part]
        end = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
        return 200, {"maxTemp": highest, "minTemp": lowest, "avgTemp": (highest + lowest) / 2, "startTime": payload, "endTime": end}
    return 404, {}


def acknowledge(patch):
    version, out = patch["$version"], {}
    for name, wished in patch.items():
        if name == "$version":
            continue
        if not isinstance(wished, dict) or wished.get("__t") != "c":
            out[name] = {"value": wished, "ac": 400, "av": version, "ad": "there is no such property"}
            continue
        acks = {}
        for inside, value in wished.items():
            if inside == "__t":
                continue
            ac, ad = 200, "completed"
            if inside != "targetTemperature":
                ac, ad = 400, "there is no such property"
            elif value > 100:
                ac, ad = 400, "too hot"
            acks[inside] = {"value": value, "ac": ac, "av": version, "ad": ad}
        out.update(component(name, acks))
    return out


def main():
    with open(config["ca"]) as f:
        trust = f.read()
    client = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={config['host']};DeviceId={config['device']};SharedAccessKey={config['key']}",
        server_verification_cert=trust,
        websockets=config.get("websockets", False),
        keep_alive=10,
        product_info=config["model"],
    )

    def method(request):
        status, body = answer(request.name, request.payload)
        say(event="method", name=request.name, payload=request.payload)
        client.send_method_response(MethodResponse.create_from_method_request(request, status, body))

    def desired(patch):
        client.patch_twin_reported_properties(acknowledge(patch))
        say(event="desired", patch=patch)

    client.on_method_request_received = method
    client.on_twin_desired_properties_patch_received = desired
    client.connect()
    client.patch_twin_reported_properties({"serialNumber": "alwinexlepaho8329"})
    client.patch_twin_reported_properties(
        component("deviceInformation", {"manufacturer": "Contoso Device Corporation", "model": "Contoso 47-turbo", "swVersion": "10.89", "totalMemory": 65000})
    )
    for name, (highest, _) in thermostats.items():
        client.patch_twin_reported_properties(component(name, {"maxTempSinceLastReboot": highest}))
    # What was desired before the device was here, as the convention has it.
    waiting = client.get_twin()["desired"]
    if len(waiting) > 1:
        client.patch_twin_reported_properties(acknowledge(waiting))
        say(event="desired", patch=waiting)
    say(event="ready")
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "telemetry":
            m = Message(json.dumps(order["body"]), content_encoding="utf-8", content_type="application/json")
            if "component" in order:
                m.custom_properties["$.sub"] = order["component"]
            client.send_message(m)
            say(event="sent")
        elif order["do"] == "quit":
            break
    client.shutdown()
    say(event="closed")


try:
    main()
except Exception as error:  # the test wants to know why
    say(event="failed", message=repr(error))
    sys.exit(1)
