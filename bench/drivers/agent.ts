// A client of ours: a real agent in the client role, in this process, that claims addresses from the servers as every
// agent does for its containers. The endpoints are of a host that is only a name, so no kernel is touched anywhere.
//   node agent.ts CONFIG NETWORK HOST-PEER-ID

import { Agent } from '#agent/agent.ts'
import { readClusterKeys } from '#config/cluster-key.ts'
import { loadConfig } from '#config/load.ts'
import { parseContainerId, parseHostName, parseIfName, parseNetworkName, parsePeerId } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { createLogger } from '#platform/log.ts'
import { serveLoads } from './driver.ts'

/** Base58 without a key behind it: nobody can be this host. */
const NOBODY = parsePeerId(`12D3KooW${'v'.repeat(44)}`)

const [file = '', networkText = ''] = process.argv.slice(2)
const config = await loadConfig({ file, env: {}, flags: {} })
const agent = await Agent.start(config, await readClusterKeys(config.clusterKeyFile), createLogger('warn'))
const until = performance.now() + 20_000
while (!agent.registrar.registered && performance.now() < until) await new Promise(resolve => setTimeout(resolve, 20))

const network = parseNetworkName(networkText)
const nobody = { name: parseHostName('nobody'), peerId: NOBODY, vtep: parseIpv4('192.0.2.250') }
await agent.replicator.propose({
  kind: 'host-register',
  host: { ...nobody, role: 'client', bootId: 'none', version: 'none' }
})
const ifname = parseIfName('eth0')
const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }
const run = process.pid
let next = 0
await serveLoads(async () => {
  next += 1
  const containerId = parseContainerId(`bench-${run}-${next}`)
  const command = {
    kind: 'endpoint-attach',
    network,
    host: NOBODY,
    containerId,
    ifname,
    name: `claim ${next}`
  } as const
  await agent.replicator.propose({ ...command, ...unshaped })
})
await agent.stop()
process.exit(0)
