// `vxmesh doctor`: facts gathered, then judged. With an agent all of it, without one the machine alone. Nothing is changed.

import type { Config } from '#config/schema.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { ipv4Underlay } from '#overlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { asVxmeshError } from '#model/errors.ts'
import type { DoctorView, FindingView } from '#model/views.ts'
import type { Agent } from '../agent.ts'
import { ok, warning } from './finding.ts'
import { gatherMachine } from './gather-machine.ts'
import { gatherMesh } from './gather-mesh.ts'
import { judgeAgent } from './judge-agent.ts'
import { judgeMachine } from './judge-machine.ts'
import { judgeMesh } from './judge-mesh.ts'

/** Takes 10 s at most. */
export async function examine(agent: Agent): Promise<DoctorView> {
  const [machine, mesh] = await Promise.all([gatherMachine(agent.config, agent.driver), gatherMesh(agent)])
  const findings = [ok('agent', 'answers'), ...judgeMesh(mesh), ...judgeAgent(mesh), ...judgeMachine(machine)]
  return view(agent.config.name, findings)
}

/** The machine alone, as the settings say that an agent would use it. */
export async function examineMachine(config: Config, agent: FindingView): Promise<DoctorView> {
  const driver = kernelOf(config)
  try {
    const skipped = warning('mesh', 'not checked: that takes an agent', 'start the agent: systemctl start vxmesh')
    return view(config.name, [agent, skipped, ...judgeMachine(await gatherMachine(config, driver))])
  } finally {
    if (typeof driver !== 'string') await driver.close()
  }
}

/** The Linux driver, whatever is configured: opening the Open vSwitch driver would create the bridge. */
function kernelOf({ overlay }: Config): LinuxDriver | string {
  try {
    return LinuxDriver.open({ underlay: ipv4Underlay(overlay.vtep), clock: systemClock })
  } catch (err) {
    return asVxmeshError(err).message
  }
}

const ORDER = ['failed', 'warning', 'ok']

function view(host: string, findings: readonly FindingView[]): DoctorView {
  // What is wrong comes first; otherwise as it was found.
  const sorted = [...findings].sort((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level))
  return { host, failed: findings.filter(({ level }) => level === 'failed').length, findings: sorted }
}
