// A client that asks a real agent 40,000 times by ZeroMQ and reads nothing: what the agent's memory grows by, and what is left.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { systemClock } from '#platform/clock.ts'
import { encodeConnection, encodeMessage, encodeNetwork } from '#zmq/message.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { cannotRun } from '../lab/requirements.ts'
import { waitFor } from '../lab/wait.ts'

const REQUESTS = 40_000
const GROWTH_MIB = 64

/** Sends its first input as a request, many times or until the agent has cut it off; then stays until it has another input. */
const DEAF = `
import sys, zmq
q = sys.stdin.buffer.read(int(sys.argv[2]))
s = zmq.Context().socket(zmq.DEALER)
s.RCVHWM = 1; s.LINGER = 0; s.SNDHWM = 2000; s.SNDTIMEO = 20000; s.setsockopt(zmq.RCVBUF, 4096); s.connect('tcp://127.0.0.1:30029')
try:
    for n in range(int(sys.argv[1])): s.send(q)
except zmq.Again: pass
print('asked', flush=True); sys.stdin.buffer.read(1)
`

const connection = (detail: object): Buffer =>
  encodeConnection({
    ...{ id: 'c1', name: '', pid: '', requestIp: 0, network: 0, ovsPortId: 0, bandwidth: 0, delay: 0 },
    ...{ rxTotal: 0, txTotal: 0, rxRate: 0, txRate: 0, connDetail: JSON.stringify(detail) }
  })
const network = (name: string): Buffer => encodeNetwork({ name, subnet: '', gateway: '', vni: 0, egressBandwidth: 0 })

const KINDS = {
  'as small as they are': encodeMessage(13, network('red')),
  'with a long text that answers return': encodeMessage(3, connection({ netns: `/${'\u4e00'.repeat(1_000)}` })),
  'as large as they may be': encodeMessage(13, network('N'.repeat(60_000)))
}

function rssMib({ agentPid }: LabHost): number {
  const status = readFileSync(`/proc/${agentPid}/status`, 'utf8')
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1_024)
}

/** Sends requests and reads no answer. @returns the most that the agent's memory reached */
async function deaf(host: LabHost, request: Buffer, count: number): Promise<number> {
  const args = ['netns', 'exec', host.namespace, '/usr/bin/python3', '-c', DEAF, `${count}`, `${request.byteLength}`]
  const child = spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const samples = [rssMib(host)]
  const stop = systemClock.every(50, () => void samples.push(rssMib(host)))
  try {
    child.stdin.write(request)
    await once(child.stdout, 'data')
    // What is left to do for the last of them.
    await systemClock.sleep(5_000)
  } finally {
    stop()
    child.stdin.end('x')
    await once(child, 'close')
  }
  return Math.max(...samples)
}

t.test('a client that asks and never reads', { skip: cannotRun(), timeout: 300_000 }, async t => {
  for (const [kind, request] of Object.entries(KINDS)) {
    const lab = await Lab.create()
    try {
      const [host] = await lab.addServers(1)
      if (host === undefined) throw new Error('no server')
      await host.api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/16' })
      await host.attach(await lab.container('c1'), 'red')
      // The agent's own memory has to settle.
      await deaf(host, KINDS['as small as they are'], 20_000)
      const before = rssMib(host)
      const most = await deaf(host, request, REQUESTS)
      t.ok(most - before <= GROWTH_MIB, `requests ${kind}: from ${before} to ${most} MiB`)
      await waitFor('its memory comes back', () => rssMib(host) <= before + GROWTH_MIB / 2, { timeoutMs: 30_000 })
      t.comment(`${kind}: before ${before}, most ${most}, after ${rssMib(host)} MiB`)
      t.match(await host.status(), { ready: true })
    } finally {
      await lab.destroy()
    }
  }
})
