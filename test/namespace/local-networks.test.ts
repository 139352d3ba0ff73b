// Another runtime's bridge on the host, as Docker's: what is behind it is not outside.

import t from 'tap'
import { parsePrefix } from '#model/ip.ts'
import { ip } from '../lab/kernel.ts'
import { SERVER } from '../lab/outside.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { GatewayLab, red } from './gateway-lab.ts'

t.test('a network of the host itself is closed to containers until it is opened', { skip: cannotRun() }, async t => {
  const g = await GatewayLab.open(1)
  t.teardown(() => g.close())
  const h1 = g.hostName(1)
  const { container } = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const other = await g.lab.container('docker')
  await ip(h1, 'link add docker0 type bridge')
  await ip(h1, 'addr add 172.17.0.1/16 dev docker0')
  await ip(h1, `link add d0 type veth peer name eth0 netns ${other.namespace}`)
  await ip(h1, 'link set d0 master docker0 up')
  await ip(h1, 'link set docker0 up')
  await g.exec(h1, 'sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
  await ip(other.namespace, 'addr add 172.17.0.2/16 dev eth0')
  await ip(other.namespace, 'link set eth0 up')
  await ip(other.namespace, 'route add default via 172.17.0.1')
  const reached = async (): Promise<boolean> => (await countReplies(container, '172.17.0.2', { waitMs: 500 })) > 0

  t.equal(await reached(), true, 'before the next pass the device is not known yet')
  await g.pass(1)
  t.equal(await reached(), false, 'closed')
  t.ok((await countReplies(container, SERVER)) > 0, 'the outside is not')
  g.opened = [parsePrefix('172.17.0.2/32')]
  await g.pass(1)
  t.equal(await reached(), true, 'opened')
  g.opened = []
  await g.pass(1)
  t.equal(await reached(), false, 'closed again')
  t.strictSame((await g.pass(1)).done, [], 'a pass finds it right')
})
