// What a user without rights on a host, and a program that is led astray, may try at the agent's local doors.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NetworkView } from '#model/views.ts'
import { encodeMessage, encodeNetwork } from '#zmq/message.ts'
import type { LabHost } from '../lab/host.ts'
import { ipJson } from '../lab/kernel.ts'
import { countReplies } from '../lab/ping.ts'
import { waitFor } from '../lab/wait.ts'
import { post } from '../zmq/http-post.ts'
import { deafClient, pathRaces, routers } from './floods.ts'
import { mib } from './gauge.ts'
import { attacker, attackerAs } from './python.ts'
import type { Outcome, Row } from './row.ts'
import type { World } from './world.ts'
import { run } from '../lab/run.ts'

const [REQUESTS, EVENTS, RPC, SERF_RPC] = [30_027, 30_028, 30_029, 7_373]
const NOBODY = 65_534
const MAX_GROWTH_BYTES = 64 * 1024 * 1024
/** Bytes each, of which an answer returns some. */
const [DEAF_QUESTIONS, DEAF_BYTES] = [12_000, 8_000]
const SWITCHES = 500

export const DOORS: readonly Row<World>[] = [
  { name: '10 user without rights: ZeroMQ on loopback', run: world => ports(world, [REQUESTS, EVENTS, RPC]) },
  { name: '10 attach by the path of a router, a host, or with ..', run: paths },
  { name: '10 attach by a link that is switched to a host', run: world => races(world, world.host(2).namespace) },
  {
    name: '10 attach by a link that is switched to a router',
    run: async world => races(world, await router(world.host(1)))
  },
  { name: '11 HTTP with a request in its body', run: http },
  { name: '12 a client of ZeroMQ that does not read', run: deaf },
  { name: '13 user without rights: Serf’s RPC', run: world => ports(world, [SERF_RPC]) },
  { name: '13 user without rights: serf leave and serf keys', run: serfCommands },
  { name: '13 serf leave by root: the traffic of a host that has left', run: leave }
]

async function ports(world: World, all: readonly number[]): Promise<Outcome> {
  const host = world.host(1)
  const [root, others] = [[] as string[], [] as string[]]
  for (const port of all) {
    root.push(await attacker<string>(host, 'reach', '127.0.0.1', port))
    for (const address of ['127.0.0.1', '127.0.0.2']) {
      others.push(await attackerAs<string>(NOBODY, host, 'reach', address, port))
    }
  }
  return {
    control: { ok: root.every(answer => answer === 'yes'), figure: `root: ${root.join(', ')}` },
    attack: { ok: others.every(answer => answer === 'ConnectionRefusedError'), figure: [...new Set(others)].join(', ') }
  }
}

async function router(host: LabHost): Promise<string> {
  const [first] = await routers(host)
  if (first === undefined) throw new Error('no router')
  return first
}

async function paths(world: World): Promise<Outcome> {
  const h1 = world.host(1)
  const container = await world.lab.container('pathed')
  const attach = (netns: string): Promise<string> =>
    h1.api.call('POST', '/v1/endpoints', { network: 'red', containerId: 'pathed', netns }).then(
      () => 'attached',
      (err: unknown) => String((err as { code?: unknown }).code ?? err)
    )
  const answers: string[] = []
  for (const netns of [
    `/run/netns/${await router(h1)}`,
    h1.netns,
    world.host(2).netns,
    world.stranger.netns,
    '/proc/1/ns/net',
    '/proc/self/ns/net',
    `/run/netns/../netns/${container.namespace}`,
    `${container.netns}/../${container.namespace}`
  ]) {
    // A host without an agent is, to the kernel, a namespace like any container's.
    if (netns === world.stranger.netns) continue
    answers.push(await attach(netns))
    await h1.api.call('DELETE', '/v1/endpoints/pathed').catch(() => undefined)
  }
  const own = await attach(container.netns)
  await h1.api.call('DELETE', '/v1/endpoints/pathed')
  return {
    control: { ok: own === 'attached', figure: `the container’s own path: ${own}` },
    attack: {
      ok: answers.every(answer => answer.startsWith('ERR_')),
      figure: `${answers.length} paths: ${[...new Set(answers)].join(', ')}`
    }
  }
}

async function races(world: World, other: string): Promise<Outcome> {
  const host = world.host(1)
  const container = await world.lab.container(`raced-${other.slice(-6)}`)
  // Within `netns.paths`; removed with the lab, should this process end before.
  const link = `${container.netns}-link`
  const before = (await ipJson(other, 'link', 'show')).length
  const r = await pathRaces(host, { container, network: 'red', other, link, switches: SWITCHES })
  const after = (await ipJson(other, 'link', 'show')).length
  return {
    control: {
      ok: r.attached > 0 && r.refused > 0,
      figure: `${r.attached} attached, ${r.refused} refused`
    },
    attack: {
      ok: r.leaked === 0 && after <= before,
      figure: `${SWITCHES} switches: ${r.leaked} interfaces put there`
    }
  }
}

async function http(world: World): Promise<Outcome> {
  const host = world.host(1)
  const create = (name: string): Buffer =>
    encodeMessage(11, encodeNetwork({ name, subnet: '10.66.0.0/24', gateway: '', vni: 0, egressBandwidth: 0 }))
  const answered = await attacker<number>(host, 'ask', RPC, 3)
  const ends: string[] = []
  for (const [n, port] of [REQUESTS, EVENTS, RPC].entries()) {
    const request = post(create(`evil-${n}`)).toString('hex')
    ends.push((await attacker<{ end: string }>(host, 'raw', port, request)).end)
  }
  const all = (await host.api.call('GET', '/v1/networks')) as NetworkView[]
  const made = all.filter(({ name }) => name.startsWith('evil'))
  for (const { name } of made) await host.api.call('DELETE', `/v1/networks/${name}`)
  return {
    control: { ok: answered === 3, figure: `${answered} of 3 questions of pyzmq answered` },
    attack: {
      ok: made.length === 0 && ends.every(end => end === 'closed'),
      figure: `${made.length} networks created, connections ${[...new Set(ends)].join(' and ')}`
    }
  }
}

async function deaf(world: World): Promise<Outcome> {
  const host = world.host(2)
  const r = await deafClient(host, { port: RPC, count: DEAF_QUESTIONS, bytes: DEAF_BYTES })
  return {
    control: {
      ok: r.answered === DEAF_QUESTIONS,
      figure: `${r.answered} of ${DEAF_QUESTIONS} answered to one that reads, RSS +${mib(r.grownByReader)}`
    },
    attack: { ok: r.grown <= MAX_GROWTH_BYTES, figure: `${r.asked} questions unread: RSS +${mib(r.grown)} more` }
  }
}

/** The address of Serf's RPC on a host, and what its own tools say there as a user. */
async function serf(host: LabHost, user: number, ...args: readonly string[]): Promise<{ code: number; text: string }> {
  const as = ['setpriv', `--reuid=${user}`, '--clear-groups', 'serf', ...args]
  const { exitCode, stdout, stderr } = await run('ip', ['netns', 'exec', host.namespace, ...as], { timeoutMs: 30_000 })
  return { code: exitCode, text: `${stdout}${stderr}` }
}

async function serfCommands(world: World): Promise<Outcome> {
  const host = world.host(2)
  const control = await serf(host, 0, 'join', world.host(1).address)
  const key = gossipKey(host)
  // A Serf that has left answers nothing more.
  const [keys, tags, left] = [
    await serf(host, NOBODY, 'keys', '-list'),
    await serf(host, NOBODY, 'tags', '-set', 'rack=9'),
    await serf(host, NOBODY, 'leave')
  ]
  const alive = (await host.members()).filter(({ status }) => status === 'alive').length
  const told = key !== null && keys.text.includes(key)
  return {
    control: { ok: control.code === 0, figure: `root: serf join exit ${control.code}` },
    attack: {
      ok: [keys, tags, left].every(({ code }) => code !== 0) && !told && alive === world.members.length,
      figure: `exit ${keys.code}, ${tags.code}, ${left.code}; the key is ${told ? 'shown' : 'not shown'}; ${alive} members alive`
    }
  }
}

function gossipKey(host: LabHost): string | null {
  const config = JSON.parse(readFileSync(join(host.dir, 'data/serf/serf.json'), 'utf8')) as { encrypt_key?: string }
  return config.encrypt_key ?? null
}

/** Serf is restarted by its agent: a host that leaves and is back within seconds loses nothing. */
async function leave(world: World): Promise<Outcome> {
  const h2 = world.host(2)
  const calm = await countReplies(world.container('me'), world.address('far'), { count: 10 })
  const ping = world.container('me').startPing(world.address('far'), { count: 2_000, intervalMs: 10 })
  const { code } = await serf(h2, 0, 'leave')
  const returned = await waitFor(
    'it is alive again',
    async () =>
      (await world.host(1).members()).find(({ name }) => name === h2.name)?.status === 'alive' && h2.serfPid !== null,
    { timeoutMs: 30_000 }
  ).then(
    () => true,
    () => false
  )
  await new Promise(resolve => setTimeout(resolve, 500))
  ping.stop()
  const { sent, gaps } = await ping.result
  await world.settled()
  return {
    control: { ok: calm === 10 && code === 0, figure: `${calm} of 10 before it, serf leave exit ${code}` },
    attack: {
      ok: returned && gaps.length === 0,
      figure: `${gaps.length} of ${sent} pings lost; ${returned ? 'alive again' : 'still away'}`
    }
  }
}
