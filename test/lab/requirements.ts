/** Why namespace tests cannot run here, or false. */
export function cannotRun(): string | false {
  return process.getuid?.() === 0 ? false : 'needs root: namespaces, veth, VXLAN'
}
