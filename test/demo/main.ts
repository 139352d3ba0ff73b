// The demo: three namespace hosts with real agents, Serf and VXLAN, checked step by step.
//   (no flag)  builds, checks and keeps the cluster for use    --once  removes it afterwards    --down  only removes
//   --family ipv4|ipv6|both     of the networks; both without it    --ipv6-underlay    the hosts have IPv6 addresses and no others

import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { LabHost } from '../lab/host.ts'
import { listNamespaces, LAB_PREFIX } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { expectOracle } from '../lab/oracle.ts'
import { labDirectory, teardown } from '../lab/teardown.ts'
import { Checks, expect, ms } from './checks.ts'
import { checkHostKill, checkLeaderKill } from './fault-checks.ts'
import {
  checkClientJoin,
  checkConcurrentAttach,
  checkMembers,
  checkStrangers,
  checkTenants,
  FAMILIES,
  type Families
} from './mesh-checks.ts'
import { checkService } from './service-checks.ts'
import { end } from '../suite/end.ts'
import { run } from '../lab/run.ts'

const KEEP = 'demo'
const { values: flags } = parseArgs({
  options: {
    once: { type: 'boolean', default: false },
    down: { type: 'boolean', default: false },
    family: { type: 'string', default: 'both' },
    'ipv6-underlay': { type: 'boolean', default: false }
  }
})
const families = FAMILIES.find(name => name === flags.family)
const underlay = flags['ipv6-underlay'] ? ({ family: 'ipv6' } as const) : {}
const checks = new Checks()

if (families === undefined) {
  console.error(`demo: --family is one of ${FAMILIES.join(', ')}`)
  process.exit(2)
}
if (flags.down) {
  await teardown(KEEP)
  await checkNothingLeft()
} else {
  await teardown(KEEP)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void teardown(KEEP).then(() => process.exit(130)))
  }
  const lab = await build()
  if (lab !== null) await prove(lab, families)
  if (flags.once) {
    await teardown(KEEP)
    await checkNothingLeft()
  } else if (lab !== null) {
    explain(lab, families)
  }
}
console.log(checks.summary())
end(checks.failed === 0 ? 0 : 1)

async function build(): Promise<Lab | null> {
  const lab = await Lab.create({ keepAs: KEEP, ...underlay })
  const up = await checks.check('three hosts found a cluster of three servers by themselves', async () => {
    const since = performance.now()
    await lab.addServers(3)
    return `ready after ${ms(performance.now() - since)}`
  })
  return up ? lab : null
}

async function prove(lab: Lab, families: Families): Promise<void> {
  await checkMembers(checks, lab)
  const tenants = await checkTenants(checks, lab, families)
  // Where the kernel or the underlay leaves no room for the programs, there are no services (docs/services.md).
  if ((await lab.host(1).status()).overlay.guard === 'bpf') await checkService(checks, lab, tenants.red1)
  await checkConcurrentAttach(checks, lab, families)
  await checkLeaderKill(checks, lab, tenants)
  await checkHostKill(checks, lab, tenants)
  await checkClientJoin(checks, lab, tenants)
  await checks.check('the kernel of every host matches the state exactly', async () => {
    await expectOracle(lab)
    return `${lab.hosts.length} hosts: devices, flood lists, FDB and neighbour entries`
  })
  await checkStrangers(checks, lab)
  await checkStart(lab)
}

/** The restart of a single server with a warm disk, and the memory of agent and Serf. */
async function checkStart(lab: Lab): Promise<void> {
  await checks.check('resident memory of agent and Serf', async () => {
    const host = lab.host(1)
    const [agent, serf] = [await residentMiB(host.agentPid), await residentMiB(host.serfPid ?? 0)]
    return `agent ${agent} MiB, serf ${serf} MiB`
  })
  const alone = await Lab.create(underlay)
  try {
    await checks.check('agent start to ready (single server, warm disk)', async () => {
      const [host] = await alone.addServers(1)
      expect(host instanceof LabHost, 'no host')
      await host?.stopAgent()
      const since = performance.now()
      await host?.startAgent()
      await host?.waitReady()
      return ms(performance.now() - since)
    })
  } finally {
    await alone.destroy()
  }
}

async function residentMiB(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8')
  return (Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1]) / 1024).toFixed(0)
}

async function checkNothingLeft(): Promise<void> {
  await checks.check('nothing is left: no namespace, device or process', async () => {
    const namespaces = listNamespaces(`${LAB_PREFIX}${KEEP}-`)
    const { stdout: devices } = await run('ip', ['-o', 'link', 'show'])
    const ours = devices.split('\n').filter(line => /: (vb|vx)[0-9a-f]{6}[:@]|: ve[0-9a-f]{13}[:@]/.test(line))
    const { stdout: processes } = await run('ps', ['-eo', 'pid,args'])
    const running = processes.split('\n').filter(line => line.includes(`${labDirectory(KEEP)}/`))
    expect(namespaces.length === 0, `namespaces ${namespaces.join(', ')}`)
    expect(ours.length === 0, `devices ${ours.join('; ')}`)
    expect(running.length === 0, `processes ${running.join('; ')}`)
    return '0 namespaces, 0 devices, 0 processes'
  })
}

function explain(lab: Lab, families: Families): void {
  const [h1] = lab.hosts
  console.log(`
The cluster keeps running. Play with it:

  on a host       ip netns exec ${h1?.namespace} bin/vxmesh --socket ${h1?.socket} status
                  (hosts h1 to h${lab.hosts.length}; ${h1?.socket.replace('/h1/', '/h<n>/')})
  in a container  ip netns exec ${LAB_PREFIX}${KEEP}-c-red1 ping ${families === 'ipv6' ? 'fd00:1::3' : '10.1.0.3'}
  logs            ${h1?.logFile}
  the end         ./scripts/demo --down
`)
}
