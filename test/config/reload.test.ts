import t from 'tap'
import { loadConfig } from '#config/load.ts'
import { planReload } from '#config/reload.ts'
import { KEY_FACTS, type Config } from '#config/schema.ts'

const config = (flags: Record<string, string>): Promise<Config> =>
  loadConfig({ file: null, env: {}, flags: { bind: '192.0.2.1', name: 'h1', ...flags } })

/** For each key a value that differs from that of `config`. */
const OTHER: Readonly<Record<string, string>> = {
  ...{ name: 'h2', role: 'server', bootstrapExpect: '5', join: '192.0.2.9', bind: '192.0.2.2', dataDir: '/elsewhere' },
  ...{ collectAfter: '5', socket: '/elsewhere.sock', clusterKeyFile: '/elsewhere.key', insecure: 'true' },
  ...{ 'serf.port': '1', 'serf.rpcPort': '1', 'serf.binary': 'other', 'p2p.port': '1', 'overlay.vtep': '192.0.2.3' },
  ...{
    'overlay.vteps': '10.9.0.0/16',
    'overlay.port': '1',
    'overlay.mtu': '1400',
    'overlay.transit': '241.0.0.0/8',
    'overlay.guard': 'off'
  },
  ...{ 'overlay.driver': 'ovs', 'overlay.ovs.socket': '/elsewhere/db.sock', 'overlay.ovs.datapath': 'netdev' },
  ...{ 'namespaces.unmapped': 'create', 'namespaces.range': '10.0.0.0/10', 'namespaces.prefixLength': '25' },
  ...{ 'zmq.requests': 'tcp://127.0.0.1:1', 'zmq.events': 'tcp://127.0.0.1:2', 'zmq.rpc': 'tcp://127.0.0.1:3' },
  ...{ 'zmq.secretKeyFile': '/secret', 'zmq.allowedKeysFile': '/allowed', 'raft.snapshotBytes': '5000' },
  ...{ 'http.listen': '127.0.0.1:1', 'log.level': 'debug', 'zmq.users': '33' },
  ...{ 'netns.paths': '/elsewhere/netns', 'egress.local': '172.17.0.0/16' },
  ...{ 'dns.enabled': 'false', 'dns.zone': 'corp.example', 'dns.search': 'a', 'dns.upstreams': '192.0.2.53' },
  ...{ 'dns.forward': 'false', 'dns.queryRate': '50', 'dns.cacheBytes': '0' }
}
/** Keys with only one possible value. */
const FIXED = ['log.format']

t.test('each key either changes by itself, or needs a restart and changes nothing', async t => {
  const running = await config({})
  for (const { key, change } of KEY_FACTS) {
    if (FIXED.includes(key)) continue
    const value = OTHER[key]
    if (value === undefined) throw new Error(`${key} has no other value here`)
    const wanted = await config({ [key]: value })
    const { config: now, changed, restart } = planReload(running, wanted)
    if (change === 'reloadable') t.same([now, changed, restart], [wanted, [key], []], key)
    else {
      t.equal(now, running, key)
      t.same([changed, restart], [[], key === 'bind' ? ['bind', 'overlay.vtep'] : [key]], key)
    }
    t.ok(Object.isFrozen(now) && Object.isFrozen(now.log))
  }
})

t.test('keys that need a restart are reported at every reload, changed keys once', async t => {
  const running = await config({})
  const wanted = await config({ 'log.level': 'warn', 'http.listen': '127.0.0.1:9', role: 'server' })
  const first = planReload(running, wanted)
  t.match(first, { changed: ['http.listen', 'log.level'], restart: ['role'], config: { role: 'client' } })
  t.match(planReload(first.config, wanted), { changed: [], restart: ['role'] })
})

t.test('keys that the agent reads only at start are not reloadable', t => {
  t.same(
    KEY_FACTS.filter(({ change }) => change === 'reloadable').map(({ key }) => key),
    [
      ...[
        'join',
        'collectAfter',
        'overlay.vteps',
        'overlay.mtu',
        'egress.local',
        'dns.search',
        'dns.upstreams',
        'dns.forward'
      ],
      ...['namespaces.unmapped', 'namespaces.range', 'namespaces.prefixLength', 'http.listen', 'log.level']
    ]
  )
  t.end()
})
