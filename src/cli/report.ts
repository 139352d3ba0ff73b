// What a bug report is made of: the agent's answers, the host's settings and facts, the tails of logs. Each part may be
// missing, for a report is wanted most when something is broken; what is missing says why. No secret is in it: everything
// goes through `scrubber`.

import { readFile, readdir, stat } from 'node:fs/promises'
import { release } from 'node:os'
import { join } from 'node:path'
import { readClusterKeys } from '#config/cluster-key.ts'
import { loadConfigWithOrigins, type ConfigSources } from '#config/load.ts'
import type { Config } from '#config/schema.ts'
import { asVxmeshError } from '#model/errors.ts'
import { sleep } from '#platform/clock.ts'
import { readIfExists } from '#platform/files.ts'
import type { TarFile } from '#platform/tar.ts'
import { ApiClient } from './client.ts'
import { settingRows } from './config-commands.ts'

export type Report = {
  readonly files: readonly TarFile[]
  /** Parts that could not be had, with why. */
  readonly missing: readonly string[]
}

type Part = readonly [name: string, collect: () => Promise<string>]

const TAIL_BYTES = 1024 * 1024
const LOG_LINES = '5000'
/** The most that one part may weigh; the end of a larger one is what counts. */
const MAX_PART_BYTES = 16 * 1024 * 1024
/** An agent that hangs is a reason for a report. */
const ANSWER_MS = 5_000
const EVENTS_MS = 2_000
const COMMAND_MS = 10_000

const ROUTES = ['status', 'members', 'hosts', 'raft/peers', 'namespaces', 'networks', 'endpoints']

/** Read-only, and of ours where a program can be asked for that. */
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

/** @param progress is told each part before it is collected */
export async function collectReport(p: {
  /** Where the agent listens, unless the settings say. */
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
  // All at once: an agent that hangs is waited for once.
  const answers = ROUTES.map((route): Part => {
    const answer = client.call('GET', `/v1/${route}`).then(json)
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

/** 32 bytes as base64: a key of ours, or somebody’s. */
const ANY_KEY = /(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])/g
const HIDDEN = '(hidden)'

/** Takes every key out of a text that this host knows, in each form that it may be written in, and whatever looks like one. */
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

/** What the agent remembers to have happened, then what happens while one looks. */
async function events(client: ApiClient): Promise<string> {
  const stop = new AbortController()
  const lines: string[] = []
  const listening = (async () => {
    for await (const line of client.lines('/v1/events?recent=true', stop.signal)) lines.push(line)
  })()
  await Promise.race([listening, sleep(EVENTS_MS, stop.signal)])
  stop.abort()
  await listening.catch(() => undefined)
  return lines.map(line => `${line}\n`).join('')
}

/** What a program prints. @throws when it is not there, or fails */
async function output(file: string, argv: readonly string[]): Promise<string> {
  const { run } = await import('#platform/process.ts')
  const { stdout, stderr, exitCode } = await run(file, argv, { timeoutMs: COMMAND_MS })
  if (exitCode !== 0) throw new Error(`${file} ended with ${exitCode}: ${stderr.slice(0, 500)}`)
  return stdout
}

async function tailOf(path: string): Promise<string> {
  return (await readFile(path)).subarray(-TAIL_BYTES).toString()
}

/** Names, sizes and times; what is in the files stays there. */
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
