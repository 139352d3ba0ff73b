import { chmod, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parse as parseYaml } from 'yaml'
import { generateClusterKey } from '#config/cluster-key.ts'
import { CONFIG_KEYS } from '#config/load.ts'
import { run } from '#platform/process.ts'
import { scratch } from '../api/scratch.ts'
import { vx } from './vx.ts'

type Row = { readonly key: string; readonly value: unknown; readonly origin: string }

const FILE = `# the host
name: h7
bind: 192.0.2.7
serf:
  # ports of gossip
  port: 7001
join: [192.0.2.1, 192.0.2.2]
p2p: { port: 7003 }
`

t.test('each setting shows its origin: default, line of the file, variable or flag', async t => {
  const file = join(scratch(t), 'vxmesh.yaml')
  await writeFile(file, FILE)
  const env = { VXMESH_CONFIG: file, VXMESH_LOG_LEVEL: 'debug', VXMESH_SERF_PORT: '7009' }
  const { code, out } = await vx(['config', 'show', '--origin', '--role', 'server', '-o', 'json'], { env })
  const rows = JSON.parse(out) as Row[]
  t.equal(code, 0)
  t.same(
    rows.map(({ key }) => key),
    CONFIG_KEYS
  )
  for (const [key, value, origin] of [
    ['name', 'h7', `${file}:2`],
    ['bind', '192.0.2.7', `${file}:3`],
    ['serf.port', 7009, 'VXMESH_SERF_PORT'],
    ['join', ['192.0.2.1', '192.0.2.2'], `${file}:7`],
    ['p2p.port', 7003, `${file}:8`],
    ['log.level', 'debug', 'VXMESH_LOG_LEVEL'],
    ['role', 'server', '--role'],
    ['overlay.vtep', '192.0.2.7', 'default'],
    ['zmq.secretKeyFile', null, 'default']
  ] as const) {
    t.same(
      rows.find(row => row.key === key),
      { key, value, origin }
    )
  }
  const { out: unset } = await vx(['config', 'show', '--origin', '-o', 'json'], { env: { VXMESH_CONFIG: file } })
  t.equal((JSON.parse(unset) as Row[]).find(({ key }) => key === 'serf.port')?.origin, `${file}:6`)
})

t.test('the YAML output is a file with the same settings', async t => {
  const dir = scratch(t)
  const [file, copy] = [join(dir, 'a.yaml'), join(dir, 'b.yaml')]
  await writeFile(file, FILE)
  const { out } = await vx(['config', 'show', '--config', file, '-o', 'yaml'])
  await writeFile(copy, out)
  t.equal((await vx(['config', 'show', '--config', copy, '-o', 'yaml'])).out, out)
  t.match(parseYaml(out), { name: 'h7', bind: '192.0.2.7', serf: { port: 7001 }, http: { listen: '127.0.0.1:7380' } })
  t.match(parseYaml(out), { overlay: { ovs: { socket: '/run/openvswitch/db.sock', datapath: 'system' } } })
})

t.test('a secret key in place of a path is not shown', async t => {
  const key = generateClusterKey()
  const { out } = await vx(['config', 'show', '--origin', '--bind', '192.0.2.1', '--serf-binary', key])
  t.notMatch(out, key)
  t.match(out, /serf.binary +\(hidden\) +--serf-binary/)
})

t.test('settings are validated with or without the key files that they name', async t => {
  const dir = scratch(t)
  const [file, key] = [join(dir, 'vxmesh.yaml'), join(dir, 'cluster.key')]
  await writeFile(file, `${FILE}clusterKeyFile: ${key}\n`)
  const validate = (...flags: string[]): ReturnType<typeof vx> => vx(['config', 'validate', '--config', file, ...flags])
  t.match(await validate(), { code: 2, out: '', err: /clusterKeyFile: cannot be read.*ERR_CONFIG/ })
  t.match(await validate('--no-key-files'), { code: 0, out: 'the settings are valid\n' })
  await writeFile(key, `${generateClusterKey()}\n`, { mode: 0o600 })
  t.match(await validate(), { code: 0, err: '' })
  await chmod(key, 0o644)
  t.match(await validate(), { code: 2, err: /readable by others/ })
  t.match(await validate('--insecure'), { code: 0 })
  t.match(await validate('--insecure', '--zmq-rpc', 'tcp://192.0.2.7:1'), {
    code: 2,
    err: /zmq.rpc: .* is not loopback/
  })
})

t.test('an error names the line, variable or flag of the invalid setting', async t => {
  const file = join(scratch(t), 'vxmesh.yaml')
  for (const [text, flags, env, words] of [
    [`${FILE}role: boss\n`, [], {}, /role: .*\(from .*vxmesh.yaml:9\)/],
    [`${FILE}http:\n\n  listen: nowhere\n`, [], {}, /http.listen: .*\(from .*vxmesh.yaml:11\)/],
    [FILE, [], { VXMESH_P2P_PORT: '0' }, /p2p.port: .*\(from VXMESH_P2P_PORT\)/],
    [FILE, ['--bind', 'x'], {}, /bind: .*\(from --bind\)/],
    [`${FILE}colour: blue\n`, [], {}, /colour: is not a known key/],
    [`${FILE}name: twice\n`, [], {}, /Map keys must be unique/],
    [`a: &a [1]\nb: *a\n`, [], {}, /Alias/],
    [`name: [\n`, [], {}, /config: .*vxmesh.yaml: /]
  ] as const) {
    await writeFile(file, text)
    for (const verb of ['validate', 'show']) {
      const { code, out, err } = await vx(['config', verb, '--config', file, ...flags], { env })
      t.same([code, out], [2, ''], `${verb} ${text.slice(-20)}`)
      t.match(err, words)
    }
  }
})

t.test('an unknown key is shown without what could control the terminal', async t => {
  const file = join(scratch(t), 'vxmesh.yaml')
  await writeFile(file, 'bind: 192.0.2.7\n"evil\\e[2J\\x9b31m\\u202e": 1\n')
  const { code, err } = await vx(['config', 'validate', '--config', file])
  t.equal(code, 2)
  t.match(err, /evil\?\[2J\?31m\?: is not a known key/)
  // eslint-disable-next-line no-control-regex
  t.notMatch(err, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/)
})

t.test('a FIFO, a device, a directory or a file of 50 MB is refused at once, in place of any file', async t => {
  const dir = scratch(t)
  const [good, fifo, huge] = [join(dir, 'good.yaml'), join(dir, 'fifo'), join(dir, 'huge')]
  await writeFile(good, 'bind: 192.0.2.7\n')
  await writeFile(huge, '', { mode: 0o600 })
  await truncate(huge, 50_000_000)
  t.equal((await run('mkfifo', ['-m', '600', fifo])).exitCode, 0)
  const bad = [
    [fifo, /is not a regular file/],
    ['/dev/zero', /is not a regular file/],
    [dir, /is not a regular file|EISDIR/],
    [huge, /has more than \d+ bytes/]
  ] as const
  for (const [path, why] of bad) {
    const { code, err } = await vx(['config', 'validate', '--config', path])
    t.match({ code, err }, { code: 2, err: why }, `config ${path}`)
    const key = await vx(['config', 'validate', '--config', good, '--cluster-key-file', path])
    t.equal(key.code, 2)
    t.match(key.err, path === '/dev/zero' ? /./ : why, `cluster key ${path}`)
  }
})
