import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { deriveKeys, generateClusterKey } from '#config/cluster-key.ts'
import { scratch } from '../api/scratch.ts'
import { served, vx } from './vx.ts'

const ZMQ_SECRET = 'JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6'

/** A host's files, with its keys in the key files and also leaked into a log. */
function hostWithKeys(t: Test): { dir: string; config: string; secrets: string[] } {
  const dir = scratch(t)
  const key = generateClusterKey()
  const { serf, p2p } = deriveKeys(key)
  const forms = (bytes: Uint8Array): string[] =>
    (['base64', 'base64url', 'hex'] as const).map(encoding => Buffer.from(bytes).toString(encoding))
  const secrets = [Buffer.from(key, 'base64'), serf, p2p].flatMap(forms)
  secrets.push(key.replace('=', ''), Buffer.from(serf).toString('hex').toUpperCase(), ZMQ_SECRET)
  writeFileSync(join(dir, 'cluster.key'), `${key}\n`, { mode: 0o600 })
  writeFileSync(join(dir, 'zmq.secret'), `${ZMQ_SECRET}\n`, { mode: 0o600 })
  mkdirSync(join(dir, 'data/serf'), { recursive: true })
  const stranger = generateClusterKey()
  const lines = [...secrets, stranger].flatMap((secret, n) => [`line ${n}: key=${secret}, end`, `"${secret}"`, secret])
  writeFileSync(join(dir, 'data/serf/serf.log'), `first line\n${lines.join('\n')}\nlast line\n`)
  writeFileSync(join(dir, 'data/serf/serf.json'), JSON.stringify({ encrypt_key: secrets[3] }))
  const config = join(dir, 'vxmesh.yaml')
  writeFileSync(
    config,
    [
      'bind: 192.0.2.1\nname: h1',
      `dataDir: ${dir}/data\nsocket: ${dir}/agent.sock\nclusterKeyFile: ${dir}/cluster.key`,
      `zmq:\n  secretKeyFile: ${dir}/zmq.secret\n  allowedKeysFile: ${dir}/zmq.allowed\n`
    ].join('\n')
  )
  return { dir, config, secrets: [...secrets, stranger] }
}

const read = (archive: string, ...args: string[]): string =>
  execFileSync('tar', [...args.slice(0, 1), archive, ...args.slice(1)], { maxBuffer: 64 * 1024 * 1024 }).toString()

t.test('a report contains no key, in any encoding and from any source', async t => {
  const { dir, config, secrets } = hostWithKeys(t)
  const file = join(dir, 'r.tar.gz')
  t.match(await vx(['report', file, '--config', config]), { code: 0, err: '' })
  const all = read(file, 'xzOf')
  for (const secret of secrets) t.notOk(all.includes(secret), `${secret.slice(0, 4)}…`)
  const log = read(file, 'xzOf', 'vxmesh-report/serf.log')
  t.match(log, /^first line\nline 0: key=\(hidden\), end\n/)
  t.match(log, /last line\n$/, 'the rest of the log is included')
  t.match(
    read(file, 'xzOf', 'vxmesh-report/data-dir.txt'),
    /serf\/serf.json\n/,
    'a file with a key is listed by name only'
  )
  t.equal(statSync(file).mode & 0o777, 0o600)
})

t.test('a report holds the agent’s answers, from the socket in the settings or the flag', async t => {
  const { agent, env } = await served(t)
  const file = join(scratch(t), 'r.tar.gz')
  const flags = ['--name', 'h1', '--bind', '192.0.2.1', '--insecure']
  const { code, out } = await vx(['report', file, ...flags, '-o', 'json'], { env })
  t.equal(code, 0)
  const { missing } = JSON.parse(out) as { missing: string[] }
  const names = read(file, 'tzf').trim().split('\n')
  for (const part of [
    'status',
    'members',
    'hosts',
    'raft-peers',
    'namespaces',
    'networks',
    'endpoints',
    'services',
    'config',
    'versions'
  ]) {
    t.ok(names.includes(`vxmesh-report/${part}.json`), part)
    t.notOk(
      missing.some(line => line.startsWith(part)),
      part
    )
  }
  t.match(JSON.parse(read(file, 'xzOf', 'vxmesh-report/networks.json')), [{ name: 'red' }])
  const events = read(file, 'xzOf', 'vxmesh-report/events.ndjson').trim().split('\n')
  t.match(
    events.map(line => JSON.parse(line) as unknown),
    [{ kind: 'member-vanished', name: 'h9' }, { kind: 'watching' }],
    'what happened before, then what happens'
  )
  t.match(JSON.parse(read(file, 'xzOf', 'vxmesh-report/config.json')), [{ key: 'name', value: 'h1', origin: '--name' }])
  t.ok(Array.isArray(JSON.parse(read(file, 'xzOf', 'vxmesh-report/kernel/ip-link.json'))))
  t.ok(agent.asked.length > 0)
})

t.test('a report is written without an agent, with a hanging one, and with invalid settings', async t => {
  const { dir, config } = hostWithKeys(t)
  const mute = createServer(() => undefined).listen(join(dir, 'mute.sock'))
  await once(mute, 'listening')
  t.teardown(() => {
    mute.closeAllConnections()
    mute.close()
  })
  const broken = join(dir, 'broken.yaml')
  writeFileSync(broken, 'bind: nowhere\n')
  for (const [flags, words] of [
    [['--config', config], /^status.json: no agent answers on .*agent.sock/m],
    [['--config', config, '--socket', join(dir, 'mute.sock')], /^status.json: the agent did not answer in time/m],
    [['--config', broken], /^config.json: bind: .*broken.yaml:1\)$/m],
    [['--config', join(dir, 'none.yaml')], /^config.json: config: ENOENT/m]
  ] as const) {
    const file = join(dir, 'r.tar.gz')
    t.match(await vx(['report', file, ...flags]), { code: 0, err: '', out: /missing +\d+: see missing.txt in it\n$/ })
    t.match(read(file, 'xzOf', 'vxmesh-report/missing.txt'), words)
    t.match(read(file, 'xzOf', 'vxmesh-report/versions.json'), /"vxmesh": "9.9.9"/)
  }
})

t.test('progress is shown on a terminal only, and an error names a file that cannot be written', async t => {
  const { dir, config } = hostWithKeys(t)
  const shown = await vx(['report', join(dir, 'r.tar.gz'), '--config', config], { io: { columns: 80 } })
  t.match(shown, { code: 0, err: /collecting status.json\n[^]*collecting kernel\/ip-link.json\n/ })
  const refused = await vx(['report', join(dir, 'none/r.tar.gz'), '--config', config])
  t.match(refused, { code: 1, out: '', err: /cannot write .*none\/r.tar.gz.*ERR_STORAGE/ })
  t.notOk(readdirSync(dir).some(name => name.endsWith('.new')))
})
