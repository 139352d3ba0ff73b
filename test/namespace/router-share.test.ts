// All routers of a host together use a share of its table of connections. The host's rules in a namespace, with a table that
// they take to be small; the kernel's count of connections is the oracle.

import t from 'tap'
import { hostRules } from '#overlay/plan/gateway/rules.ts'
import { OUTSIDE_GROUP } from '#overlay/plan/gateway/desired-gateway.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { ip, ipBatch, must } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { cannotRun } from '../lab/requirements.ts'

const TABLE = 400
const SHARE = 300
const SEND = `
import socket
for port in range(10000, 11000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', port)); s.sendto(b'x', ('10.8.0.2', 9)); s.close()
`

t.test('routers leave a quarter of the host’s table to the host', { skip: cannotRun() }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const [router, host, server] = (await lab.containers(['router', 'host', 'server'])).map(c => c.namespace)
  if (router === undefined || host === undefined || server === undefined) throw new Error('no namespaces')
  await ipBatch(
    [
      `link add vo1 group ${OUTSIDE_GROUP} type veth peer name eth0 netns ${router}`,
      `link add eth0 type veth peer name eth0 netns ${server}`,
      ...['addr add 10.9.0.1/24 dev vo1', 'addr add 10.8.0.1/24 dev eth0', 'link set vo1 up', 'link set eth0 up']
    ],
    host
  )
  await ipBatch(
    ['addr add 10.9.0.2/24 dev eth0', 'link set eth0 up', 'route add default via 10.9.0.1', 'link set lo up'],
    router
  )
  await ipBatch(['addr add 10.8.0.2/24 dev eth0', 'link set eth0 up', 'link set lo up'], server)
  await must('ip', ['netns', 'exec', host, 'sysctl', '-qw', 'net.ipv4.ip_forward=1'])
  const transit = { base: parseIpv4('10.9.0.0'), prefixLength: 24 }
  const observed = { underlay: [], exits: ['eth0'], closed: [], tableSize: TABLE }
  await must('ip', ['netns', 'exec', host, 'nft', '-f', '-'], {
    input: hostRules({ guarded: [], opened: [], transit }, observed)
  })
  const tracked = async (): Promise<number> =>
    Number(await must('ip', ['netns', 'exec', host, 'sysctl', '-n', 'net.netfilter.nf_conntrack_count']))
  const send = (from: string): Promise<string> => must('ip', ['netns', 'exec', from, '/usr/bin/python3', '-c', SEND])

  await send(router)
  const count = await tracked()
  t.ok(count > SHARE * 0.9 && count <= SHARE * 1.1, `${count} of 1,000 connections by routers`)
  await send(host)
  t.ok((await tracked()) >= count + 1_000, 'the host itself has no limit')
  await ip(host, 'link del vo1')
})
