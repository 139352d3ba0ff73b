import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { generateClusterKey, type ClusterKeys } from '#config/cluster-key.ts'
import type { Config } from '#config/schema.ts'
import type { ExitCode } from '#model/errors.ts'
import { vx, type Run } from './vx.ts'

type Started = { readonly config: Config; readonly keys: ClusterKeys | null }

/** Runs `vxmesh agent` and captures the configuration it would start with. */
async function agent(
  argv: readonly string[],
  p: { env?: Record<string, string>; ends?: ExitCode } = {}
): Promise<Run & { started: Started | null }> {
  let started: Started | null = null
  const run = await vx(['agent', ...argv], {
    env: p.env ?? {},
    runAgent: (config, keys) => {
      started = { config, keys }
      return Promise.resolve(p.ends ?? 0)
    }
  })
  return { ...run, started }
}

async function files(t: Test, yaml: string): Promise<{ config: string; key: string }> {
  const [config, key] = [join(t.testdir(), 'vxmesh.yaml'), join(t.testdir(), 'cluster.key')]
  await writeFile(config, yaml)
  await writeFile(key, `${generateClusterKey()}\n`, { mode: 0o600 })
  return { config, key }
}

t.test('the agent starts with settings from file, variables and flags, and with the cluster keys', async t => {
  const { config, key } = await files(t, 'bind: 192.0.2.1\nrole: server\nname: h1\n')
  const env = { VXMESH_CONFIG: config, VXMESH_NAME: 'h2', VXMESH_LOG_LEVEL: 'warn' }
  const flags = ['--cluster-key-file', key, '--name', 'h3', '--join', '192.0.2.2', '--join', '192.0.2.3,192.0.2.4:7000']
  const { code, started, out, err } = await agent(flags, { env })
  t.same([code, out, err], [0, '', ''])
  t.match(started?.config, {
    ...{ name: 'h3', role: 'server', clusterKeyFile: key },
    join: ['192.0.2.2', '192.0.2.3', '192.0.2.4:7000'],
    log: { level: 'warn' }
  })
  t.equal(started?.keys?.serf.byteLength, 32)
})

t.test('--config takes precedence over VXMESH_CONFIG', async t => {
  const { config, key } = await files(t, `bind: 192.0.2.1\nname: file\n`)
  const { started } = await agent(['--config', config, '--cluster-key-file', key], { env: { VXMESH_CONFIG: '/none' } })
  t.equal(started?.config.name, 'file')
})

t.test('--socket also applies to the agent, anywhere on the line', async t => {
  const { started } = await agent(['--insecure', '--bind', '192.0.2.1', '--socket', '/run/a.sock'])
  t.equal(started?.config.socket, '/run/a.sock')
})

t.test('--insecure starts without a key, with and without its value', async t => {
  for (const flags of [['--insecure'], ['--insecure', 'true'], ['--insecure=true']]) {
    const { started } = await agent([...flags, '--bind', '192.0.2.1'])
    t.match(started, { config: { insecure: true }, keys: null }, flags.join(' '))
  }
  const { code, err, started } = await agent([
    '--insecure',
    'false',
    '--bind',
    '192.0.2.1',
    '--cluster-key-file',
    '/none'
  ])
  t.same([code, started], [2, null])
  t.match(err, /clusterKeyFile: .*\[ERR_CONFIG\]/)
})

t.test('the command exits with the agent’s exit code', async t => {
  for (const ends of [0, 1] as const) t.equal((await agent(['--insecure', '--bind', '192.0.2.1'], { ends })).code, ends)
})

t.test('an invalid setting exits with 2 before anything starts', async t => {
  const { config } = await files(t, 'bind: 192.0.2.1\nrol: server\n')
  for (const [argv, words] of [
    [[], /bind: is required/],
    [['--bind', 'eth0'], /bind: must be an IPv4 address.* \(from --bind\)/],
    [['--bind', '192.0.2.1', '--role', 'master'], /role: must be one of server, client, got "master" \(from --role\)/],
    [['--bind', '192.0.2.1', '--serf-port', '70000'], /serf.port: .* \(from --serf-port\)/],
    [['--bind', '192.0.2.1', '--insecure', 'maybe'], /insecure: must be true or false/],
    [['--bind', '192.0.2.1', '--cluster-key-file', '/none'], /clusterKeyFile: cannot be read.*vxmesh keygen/],
    [['--bind', '192.0.2.1', '--serf-prot', '1'], /unknown option '--serf-prot' \(Did you mean --serf-port\?\)/],
    [['--bind'], /option '--bind <value>' argument missing/],
    [['--config', config], /rol: is not a known key/],
    [['--config', '/none'], /config: .*\/none/]
  ] as const) {
    const { code, out, err, started } = await agent(argv)
    t.same([code, out, started], [2, '', null], argv.join(' '))
    t.match(err, words, argv.join(' '))
  }
})

t.test('keygen prints a new key, and nothing else', async t => {
  const [one, two] = [await vx(['keygen']), await vx(['keygen'])]
  t.match(one, { code: 0, out: /^[A-Za-z0-9+/]{43}=\n$/, err: '' })
  t.not(one.out, two.out)
})
