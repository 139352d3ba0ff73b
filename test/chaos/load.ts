// The client load of a chaos run: concurrent lanes claim and release addresses through a real agent, retry every request
// whose outcome is unknown, and record all answers.
//   node load.ts CONFIG NETWORK LANES    commands on stdin: "tally", "acknowledged-after <ms>", "stop"

import { randomUUID } from 'node:crypto'
import { asVxmeshError, type ErrorCode } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { formatIp } from '#model/ip.ts'
import { startClientAgent } from '../lab/client-agent.ts'
import { answerLines } from '../lab/json-process.ts'
import { hostMs } from './host-clock.ts'

export type LoadReport = {
  readonly acknowledged: number
  /** Retries of requests with an unknown outcome: inside the agent, and by a lane under the same request id. */
  readonly retries: { readonly agent: number; readonly lane: number }
  /** Request ids that got two different addresses. */
  readonly twoAddresses: readonly string[]
  readonly refusals: Readonly<Record<string, number>>
  /** Claims that must exist now, container id to address; and containers that must not exist. */
  readonly held: Readonly<Record<string, string>>
  readonly released: readonly string[]
}

/** The outcome of the request is unknown: retry. */
const UNKNOWN: ReadonlySet<ErrorCode> = new Set(['ERR_NO_QUORUM', 'ERR_TIMEOUT', 'ERR_BUSY', 'ERR_SESSION_EXPIRED'])
/** Claims that a lane holds before it releases one for each new one. */
const HELD_MAX = 60
const PAUSE_MS = 4

const [file = '', networkText = '', lanesText = ''] = process.argv.slice(2)
const agent = await startClientAgent(file)
const [network, ifname] = [parseNetworkName(networkText), parseIfName('eth0')]
const held = new Map<string, string>()
const released: string[] = []
const givenTo = new Map<string, string>()
const twoAddresses: string[] = []
const refusals: Record<string, number> = {}
/** When each acknowledged request was first sent and when it was acknowledged, on the machine's clock. */
const acknowledged: { readonly askedMs: number; readonly atMs: number }[] = []
let [laneRetries, stopping] = [0, false]

const lanes = Array.from({ length: Number(lanesText) }, (_, n) => lane(n))
await answerLines(async question => {
  const [verb, argument] = String(question).split(' ')
  if (verb === 'acknowledged-after') {
    const first = acknowledged.filter(({ askedMs }) => askedMs > Number(argument)).map(({ atMs }) => atMs)
    return first.length === 0 ? null : Math.min(...first)
  }
  if (verb === 'stop') {
    stopping = true
    await Promise.all(lanes)
  }
  return report()
})
await agent.stop()
process.exit(0)

function report(): LoadReport {
  const retries = { agent: agent.control.log.retries, lane: laneRetries }
  const outcome = { acknowledged: acknowledged.length, retries, twoAddresses, refusals }
  return { ...outcome, held: Object.fromEntries(held), released }
}

async function lane(number: number): Promise<void> {
  const mine: string[] = []
  for (let n = 0; !stopping; n++) {
    const id = `lane${number}-${n}`
    if (await claim(id)) mine.push(id)
    const oldest = mine[0]
    if (oldest !== undefined && mine.length > HELD_MAX && (await release(oldest))) mine.shift()
    await new Promise(resolve => setTimeout(resolve, PAUSE_MS))
  }
}

/** @returns whether it was acknowledged; until then it is in neither list, because its outcome is unknown */
async function claim(id: string): Promise<boolean> {
  const [containerId, requestId] = [parseContainerId(id), randomUUID()]
  const facts = { network, host: agent.self, containerId, ifname, name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
  const result = await retryUntilAnswered(() =>
    agent.control.log.propose({ kind: 'endpoint-attach', ...facts, requestId })
  )
  if (result?.kind !== 'endpoint') return false
  const address = formatIp(result.endpoint.address)
  const before = givenTo.get(requestId)
  if (before !== undefined && before !== address) twoAddresses.push(requestId)
  givenTo.set(requestId, address)
  held.set(id, address)
  return true
}

async function release(id: string): Promise<boolean> {
  // From now on it may be released at any moment, so it leaves `held` before and enters `released` only afterwards.
  held.delete(id)
  const command = { kind: 'endpoint-detach', containerId: parseContainerId(id), ifname } as const
  const result = await retryUntilAnswered(() => agent.control.log.propose(command), ['ERR_ENDPOINT_NOT_FOUND'])
  if (result !== null) released.push(id)
  return true
}

/** Retries until there is an answer. `done`: errors by which a retry learns that an earlier attempt succeeded. */
async function retryUntilAnswered(
  ask: () => ReturnType<typeof agent.control.log.propose>,
  done: readonly ErrorCode[] = []
): Promise<Awaited<ReturnType<typeof agent.control.log.propose>>['result'] | null> {
  const askedMs = hostMs()
  for (let attempt = 1; ; attempt++) {
    try {
      const { result } = await ask()
      acknowledged.push({ askedMs, atMs: hostMs() })
      return result
    } catch (thrown) {
      const { code } = asVxmeshError(thrown)
      if (attempt > 1 && done.includes(code)) return null
      if (!UNKNOWN.has(code)) {
        refusals[code] = (refusals[code] ?? 0) + 1
        if (refusals[code] === 1) console.error(thrown)
        return null
      }
      laneRetries += 1
    }
  }
}
