// A Plug and Play temperature controller with two thermostats on Azure's own SDK for
// Node, for the end-to-end test: node controller.js CONFIG_JSON. It behaves as the
// temperature controller sample of the SDK does (its model is
// dtmi:com:example:TemperatureController;2), takes the configuration of device.js, and
// says the same things as ../azure-python/controller.py.
'use strict';
const fs = require('fs');
const tls = require('tls');
const readline = require('readline');
const { Client, Message } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');

const config = JSON.parse(process.argv[2]);
const ca = fs.readFileSync(config.ca, 'utf8');
const dial = tls.connect;
tls.connect = (options, ...rest) =>
  dial({ ...options, ca, port: config.websockets ? config.httpsPort : config.mqttsPort }, ...rest);

const say = (what) => console.log(JSON.stringify(what));
const thermostats = { thermostat1: { max: 20, min: 18 }, thermostat2: { max: 30, min: 25 } };
const component = (name, properties) => ({ [name]: { __t: 'c', ...properties } });

function answer(name, payload) {
  const [part, command] = name.includes('*') ? name.split('*') : ['', name];
  if (part === '' && command === 'reboot') return [200, {}];
  if (thermostats[part] && command === 'getMaxMinReport') {
    const { max, min } = thermostats[part];
    return [200, { maxTemp: max, minTemp: min, avgTemp: (max + min) / 2, startTime: payload, endTime: new Date().toISOString() }];
  }
  return [404, {}];
}

async function main() {
  const connection = `HostName=${config.host};DeviceId=${config.device};SharedAccessKey=${config.key}`;
  const client = Client.fromConnectionString(connection, config.websockets ? MqttWs : Mqtt);
  await client.setOptions({ keepAlive: 10, modelId: config.model });
  await client.open();
  for (const name of ['reboot', 'thermostat1*getMaxMinReport', 'thermostat2*getMaxMinReport']) {
    client.onDeviceMethod(name, async (request, response) => {
      const [status, body] = answer(name, request.payload);
      say({ event: 'method', name, payload: request.payload });
      await response.send(status, body);
    });
  }
  const twin = await client.getTwin();
  const report = (patch) =>
    new Promise((done, failed) => twin.properties.reported.update(patch, (error) => (error ? failed(error) : done())));
  await report({ serialNumber: 'alwinexlepaho8329' });
  await report(component('deviceInformation', { manufacturer: 'Contoso Device Corporation', model: 'Contoso 47-turbo', swVersion: '10.89', totalMemory: 65000 }));
  for (const [name, { max }] of Object.entries(thermostats)) await report(component(name, { maxTempSinceLastReboot: max }));
  twin.on('properties.desired', async (patch) => {
    for (const [name, wished] of Object.entries(patch)) {
      if (name === '$version') continue;
      if (!wished || wished.__t !== 'c') {
        await report({ [name]: { value: wished, ac: 400, av: patch.$version, ad: 'there is no such property' } });
        continue;
      }
      const acks = {};
      for (const [property, value] of Object.entries(wished)) {
        if (property === '__t') continue;
        const [ac, ad] = property !== 'targetTemperature' ? [400, 'there is no such property'] : value > 100 ? [400, 'too hot'] : [200, 'completed'];
        acks[property] = { value, ac, av: patch.$version, ad };
      }
      await report(component(name, acks));
    }
    if (Object.keys(patch).length > 1) say({ event: 'desired', patch });
  });
  say({ event: 'ready' });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    if (order.do === 'telemetry') {
      const m = new Message(JSON.stringify(order.body));
      m.contentType = 'application/json';
      m.contentEncoding = 'utf-8';
      if (order.component) m.properties.add('$.sub', order.component);
      await client.sendEvent(m);
      say({ event: 'sent' });
    } else if (order.do === 'quit') {
      break;
    }
  }
  await client.close();
  say({ event: 'closed' });
  process.exit(0);
}

main().catch((error) => {
  say({ event: 'failed', message: String(error && error.message) });
  process.exit(1);
});
