"""A device with Azure's own SDK for Python, as one in the field, for the end-to-end test.

    device.py CONFIG_JSON

CONFIG_JSON: host, device, ca, mqttsPort, httpsPort, websockets, and either key (base64, to
connect), or idScope with key or cert and certKey (to provision first). What happens is written
to standard output, a JSON object a line; what to do comes by standard input, a JSON object a
line: {"do": "telemetry" | "twin" | "report" | "quit", ...}.

The SDK always dials 8883 and 443; the test's ports are others, so paho is told where to go and
nothing else is changed.
"""

import json
import os
import ssl
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "site"))

import paho.mqtt.client as paho
from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse, ProvisioningDeviceClient, X509

config = json.loads(sys.argv[1])
ports = {8883: config["mqttsPort"], 443: config["httpsPort"]}
dial = paho.Client.connect
paho.Client.connect = lambda self, host, port=1883, **rest: dial(self, host, port=ports[port], **rest)

writing = threading.Lock()


def say(**what):
    with writing:
        print(json.dumps(what), flush=True)


def trust():
    with open(config["ca"]) as f:
        return f.read()


def certificate():
    return X509(cert_file=config["cert"], key_file=config["certKey"])


def provision():
    common = dict(
        provisioning_host=config["host"],
        registration_id=config["device"],
        id_scope=config["idScope"],
        server_verification_cert=trust(),
        websockets=config.get("websockets", False),
    )
    if "cert" in config:
        client = ProvisioningDeviceClient.create_from_x509_certificate(x509=certificate(), **common)
    else:
        client = ProvisioningDeviceClient.create_from_symmetric_key(symmetric_key=config["key"], **common)
    if "model" in config:
        client.provisioning_payload = {"modelId": config["model"]}
    result = client.register()
    say(
        event="provisioned",
        status=result.status,
        hub=result.registration_state.assigned_hub,
        device=result.registration_state.device_id,
    )
    return result.registration_state.device_id


def connect(device):
    common = dict(server_verification_cert=trust(), websockets=config.get("websockets", False), keep_alive=10)
    if "model" in config:
        common["product_info"] = config["model"]
    if "cert" in config:
        return IoTHubDeviceClient.create_from_x509_certificate(
            x509=certificate(), hostname=config["host"], device_id=device, **common
        )
    return IoTHubDeviceClient.create_from_connection_string(
        f"HostName={config['host']};DeviceId={device};SharedAccessKey={config['key']}", **common
    )


def main():
    device = provision() if "idScope" in config else config["device"]
    client = connect(device)

    def method(request):
        say(event="method", name=request.name, payload=request.payload)
        if request.name == "slow":
            return  # no answer at all
        status = 200 if request.name != "fail" else 500
        client.send_method_response(MethodResponse.create_from_method_request(request, status, {"did": request.name}))

    def message(m):
        say(
            event="message",
            data=m.data.decode(),
            id=m.message_id,
            properties={str(k): str(v) for k, v in m.custom_properties.items()},
        )

    def desired(patch):
        say(event="desired", patch=patch)

    def state():
        say(event="connected" if client.connected else "disconnected")

    client.on_connection_state_change = state
    client.on_method_request_received = method
    client.on_message_received = message
    client.on_twin_desired_properties_patch_received = desired
    client.connect()
    say(event="ready")
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "telemetry":
            m = Message(json.dumps(order["body"]), content_encoding="utf-8", content_type="application/json")
            for key, value in order.get("properties", {}).items():
                m.custom_properties[key] = value
            client.send_message(m)
            say(event="sent")
        elif order["do"] == "twin":
            say(event="twin", twin=client.get_twin())
        elif order["do"] == "report":
            client.patch_twin_reported_properties(order["patch"])
            say(event="reported")
        elif order["do"] == "quit":
            break
    client.shutdown()
    say(event="closed")


main()
