// Our client: a real agent that claims addresses from the servers, as every agent does for its containers.
//   node agent.ts CONFIG NETWORK

import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { startClientAgent } from '../../test/lab/client-agent.ts'
import { serveLoads } from './driver.ts'

const [file = '', networkText = ''] = process.argv.slice(2)
const agent = await startClientAgent(file)
const [network, ifname] = [parseNetworkName(networkText), parseIfName('eth0')]
const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }
let next = 0
await serveLoads(async () => {
  next += 1
  const containerId = parseContainerId(`bench-${process.pid}-${next}`)
  const claim = { network, host: agent.self, containerId, ifname, name: `claim ${next}`, ...unshaped }
  await agent.control.log.propose({ kind: 'endpoint-attach', ...claim })
})
await agent.stop()
process.exit(0)
