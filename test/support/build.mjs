// Vitest calls this before a project whose tests need dist/.
import { build } from '../../esbuild.config.mjs'

/** @param {{ name: string }} project */
export const setup = ({ name }) => build({ quiet: true, types: name === 'build' })
