// A real client agent inside this process, and a host that exists only as a record: endpoints of that host can be claimed
// by the thousand without touching any kernel.

import { Agent } from '#agent/agent.ts'
import { openParts } from '#agent/parts.ts'
import { systemMachine } from '#agent/system.ts'
import { readClusterKeys } from '#config/cluster-key.ts'
import { loadConfig } from '#config/load.ts'
import type { Config } from '#config/schema.ts'
import { parseHostName, parsePeerId } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { createLogger } from '#platform/log.ts'
import { waitFor } from './wait.ts'

/** A peer id that belongs to no key: no agent can be this host. */
export const NOBODY = parsePeerId(`12D3KooW${'v'.repeat(44)}`)

/** Starts the agent from a configuration file; resolves once the agent and the host `nobody` are registered. */
export async function startClientAgent(configFile: string): Promise<Agent> {
  const readConfig = (): Promise<Config> => loadConfig({ file: configFile, env: {}, flags: {} })
  const config = await readConfig()
  const keys = await readClusterKeys(config.clusterKeyFile)
  const settings = { ...systemMachine, config, keys, logger: createLogger('warn'), readConfig }
  const agent = await Agent.start(await openParts(settings))
  await waitFor('this agent is registered', () => agent.control.registrar.registered, { timeoutMs: 20_000 })
  const facts = { name: parseHostName('nobody'), peerId: NOBODY, vtep: parseIpv4('192.0.2.250') }
  const host = { ...facts, role: 'client', bootId: 'none', version: 'none' } as const
  await agent.control.propose({ kind: 'host-register', host })
  return agent
}
