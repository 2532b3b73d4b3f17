/** What run.mjs needs of the simulation beside the seeds. */
export { coverageTable, impossiblePairs, possiblePairs } from './coverage.js'
export { mutationNames as mutations } from './mutations.js'
