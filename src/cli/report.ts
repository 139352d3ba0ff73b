// The contents of a bug report: the agent's answers, settings, host facts, and the tails of logs. Any part may be missing,
// since reports are made when something is broken; missing.txt says why. All text goes through `scrubber`, which removes
// secrets.

import { readFile, readdir, stat } from 'node:fs/promises'
import { release } from 'node:os'
import { join } from 'node:path'
import { readClusterKeys } from '#config/cluster-key.ts'
import { loadConfigWithOrigins, type ConfigSources } from '#config/load.ts'
import type { Config } from '#config/schema.ts'
import { asVxmeshError } from '#model/errors.ts'
import { systemClock } from '#platform/clock.ts'
import { readIfExists } from '#platform/files.ts'
import type { TarFile } from '#platform/tar.ts'
import { ApiClient } from './client.ts'
import { settingRows } from './config-commands.ts'

export type Report = {
  readonly files: readonly TarFile[]
  /** Parts that could not be collected, with the reason. */
  readonly missing: readonly string[]
}

type Part = readonly [name: string, collect: () => Promise<string>]

const TAIL_BYTES = 1024 * 1024
const LOG_LINES = '5000'
/** Size limit of a part; only the end of a larger one is kept. */
const MAX_PART_BYTES = 16 * 1024 * 1024
/** Short: an agent that hangs is a likely reason for a report. */
const ANSWER_MS = 5_000
const EVENTS_MS = 2_000
const COMMAND_MS = 10_000

const ROUTES = ['status', 'raft/peers']
const LISTS = ['members', 'hosts', 'namespaces', 'networks', 'endpoints', 'services']
/** Rows of a list: some 12 MiB of endpoints. */
const MAX_ROWS = 20_000

/** Read-only commands, limited to our own objects where possible. */
const COMMANDS: readonly (readonly [name: string, ...argv: readonly string[]])[] = [
  ['ip-link.json', 'ip', '-d', '-s', '-j', 'link'],
  ['ip-addr.json', 'ip', '-j', 'addr'],
  ['ip-route.json', 'ip', '-j', 'route', 'show', 'table', 'all'],
  ['ip-rule.json', 'ip', '-j', 'rule'],
  ['ip-neigh.json', 'ip', '-j', 'neigh'],
  ['ip-netns.json', 'ip', '-j', 'netns', 'list'],
  ['bridge-link.json', 'bridge', '-d', '-j', 'link'],
  ['bridge-fdb.json', 'bridge', '-j', 'fdb', 'show'],
  ['tc-qdisc.json', 'tc', '-s', '-j', 'qdisc'],
  ['nft-ports.json', 'nft', '-j', 'list', 'table', 'bridge', 'vxmesh_ports'],
  ['nft-underlay.json', 'nft', '-j', 'list', 'table', 'inet', 'vxmesh_underlay'],
  ['nft-nat.json', 'nft', '-j', 'list', 'table', 'ip', 'vxmesh_nat']
]

/** @param progress is called with each part before it is collected */
export async function collectReport(p: {
  /** The agent's socket, unless the settings name one. */
  readonly socket: string
  readonly sources: ConfigSources
  readonly version: string
  readonly progress: (part: string) => void
}): Promise<Report> {
  const { sources } = p
  const loaded = await loadConfigWithOrigins(sources).catch((err: unknown) => asVxmeshError(err))
  const config = loaded instanceof Error ? null : loaded.config
  const client = new ApiClient(config?.socket ?? p.socket, ANSWER_MS)
  const scrub = await scrubber(config)
  // Concurrently, so that a hanging agent costs one timeout.
  const answers = [
    ...ROUTES.map(route => [route, client.call('GET', `/v1/${route}`)] as const),
    ...LISTS.map(route => [route, client.list(`/v1/${route}`, MAX_ROWS)] as const)
  ].map(([route, asked]): Part => {
    const answer = asked.then(json)
    answer.catch(() => undefined)
    return [`${route.replace('/', '-')}.json`, () => answer]
  })
  const parts: Part[] = [
    ['versions.json', () => versions(p.version, config)],
    ...answers,
    ['events.ndjson', () => events(client)],
    [
      'config.json',
      () => (loaded instanceof Error ? Promise.reject(loaded) : Promise.resolve(json(settingRows(loaded))))
    ],
    ['log.txt', () => output('journalctl', ['-u', 'vxmesh', '-n', LOG_LINES, '--no-pager', '-o', 'short-iso-precise'])],
    ['serf.log', () => tailOf(join(dataDirOf(config), 'serf/serf.log'))],
    ['data-dir.txt', () => listing(dataDirOf(config))],
    ...COMMANDS.map(([name, file = '', ...argv]): Part => [`kernel/${name}`, () => output(file, argv)])
  ]
  const files: TarFile[] = []
  const missing: string[] = []
  for (const [name, collect] of parts) {
    p.progress(name)
    try {
      const data = Buffer.from(scrub(await collect()))
      files.push({ name: `vxmesh-report/${name}`, data: data.subarray(-MAX_PART_BYTES) })
    } catch (err) {
      missing.push(scrub(`${name}: ${asVxmeshError(err).message.replace(/\s+/g, ' ')}`))
    }
  }
  files.push({ name: 'vxmesh-report/missing.txt', data: Buffer.from(missing.map(line => `${line}\n`).join('')) })
  return { files, missing }
}

/** Anything that looks like a key: 32 bytes in base64. */
const ANY_KEY = /(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])/g
const HIDDEN = '(hidden)'

/** Removes every key that this host knows, in every encoding, and anything that looks like a key. */
async function scrubber(config: Config | null): Promise<(text: string) => string> {
  const known: string[] = []
  const add = (key: Uint8Array): void => {
    const bytes = Buffer.from(key)
    for (const encoding of ['base64', 'base64url', 'hex'] as const) known.push(bytes.toString(encoding))
    known.push(bytes.toString('hex').toUpperCase(), bytes.toString('base64').replace(/=+$/, ''))
  }
  const read = async (path: string | undefined): Promise<string> =>
    path === undefined ? '' : ((await readIfExists(path).catch(() => null))?.toString().trim() ?? '')
  if (config !== null) {
    const cluster = await read(config.clusterKeyFile)
    if (cluster !== '') add(Buffer.from(cluster, 'base64'))
    const derived = await readClusterKeys(config.clusterKeyFile).catch(() => null)
    if (derived !== null) for (const key of [derived.serf, derived.p2p]) add(key)
    known.push(cluster, await read(config.zmq.secretKeyFile))
  }
  const secrets = known.filter(text => text.length >= 16)
  return text => secrets.reduce((rest, secret) => rest.replaceAll(secret, HIDDEN), text).replace(ANY_KEY, HIDDEN)
}

async function versions(vxmesh: string, config: Config | null): Promise<string> {
  const first = async (file: string, ...argv: string[]): Promise<string> =>
    output(file, argv).then(
      text => text.split('\n')[0] ?? '',
      (err: unknown) => asVxmeshError(err).message.split('\n')[0] ?? ''
    )
  const system = await readFile('/etc/os-release', 'utf8').catch(() => '')
  return json({
    vxmesh,
    node: process.version,
    kernel: release(),
    system: /^PRETTY_NAME="?(.*?)"?$/m.exec(system)?.[1] ?? 'unknown',
    serf: await first(config?.serf.binary ?? 'serf', 'version'),
    ip: await first('ip', '-V'),
    nft: await first('nft', '--version'),
    at: new Date().toISOString()
  })
}

/** The recent events that the agent remembers, followed by those of the next EVENTS_MS. */
async function events(client: ApiClient): Promise<string> {
  const stop = new AbortController()
  const lines: string[] = []
  const listening = (async () => {
    for await (const line of client.lines('/v1/events?recent=true', stop.signal)) lines.push(line)
  })()
  await Promise.race([listening, systemClock.sleep(EVENTS_MS, stop.signal)])
  stop.abort()
  await listening.catch(() => undefined)
  return lines.map(line => `${line}\n`).join('')
}

/** Standard output of a program. @throws if it is missing or fails */
async function output(file: string, argv: readonly string[]): Promise<string> {
  const { run } = await import('#platform/process.ts')
  const { stdout, stderr, exitCode } = await run(file, argv, { timeoutMs: COMMAND_MS })
  if (exitCode !== 0) throw new Error(`${file} ended with ${exitCode}: ${stderr.slice(0, 500)}`)
  return stdout
}

async function tailOf(path: string): Promise<string> {
  return (await readFile(path)).subarray(-TAIL_BYTES).toString()
}

/** Names, sizes and times of files, without their contents. */
async function listing(dir: string): Promise<string> {
  const names = (await readdir(dir, { recursive: true })).sort().slice(0, 10_000)
  const rows = await Promise.all(
    names.map(async name => {
      const facts = await stat(join(dir, name)).catch(() => null)
      return facts === null ? `gone ${name}\n` : `${facts.size} ${facts.mtime.toISOString()} ${name}\n`
    })
  )
  return rows.join('')
}

function dataDirOf(config: Config | null): string {
  return config?.dataDir ?? '/var/lib/vxmesh'
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 1)}\n`
}
