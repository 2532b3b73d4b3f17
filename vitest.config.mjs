import { defineConfig } from 'vitest/config'
import { mutate } from './test/simulation/source-mutations.mjs'
import { limit } from './test/support/machine.mjs'

const common = {
  environment: 'node',
  testTimeout: limit(5_000),
  hookTimeout: limit(10_000),
  // See esbuild.config.mjs.
  alias: { 'workbox-window': 'workbox-window/build/workbox-window.prod.mjs' },
}

/** For what starts processes. No test waits this long unless something has gone wrong. */
const patient = {
  testTimeout: limit(60_000),
  hookTimeout: limit(60_000),
  expect: { poll: { timeout: limit(10_000) } },
}

/** For what needs dist/. */
const globalSetup = ['test/support/build.mjs']
/** The sources explain their errors, as the development build does. */
const define = { DEVELOPMENT: 'true' }

export default defineConfig({
  test: {
    maxWorkers: '100%',
    // The hints of the development build, where no test fails.
    silent: 'passed-only',
    projects: [
      {
        define,
        // The simulation runs single tests with a mutation, which they have to notice.
        plugins: process.env.TOKENWARD_MUTATION ? [mutate(process.env.TOKENWARD_MUTATION)] : [],
        test: {
          ...common,
          name: 'unit',
          include: ['test/*/*.test.ts'],
          exclude: ['test/{browser,build,unattended}/**'],
        },
      },
      {
        // What looks at dist/ itself.
        define,
        test: {
          ...common,
          name: 'build',
          include: ['test/build/*.test.ts'],
          globalSetup,
          ...patient,
        },
      },
      {
        define,
        test: {
          ...common,
          name: 'browser',
          globalSetup,
          include: ['test/browser/*.test.ts'],
          // Each file has servers of its own, so two can run side by side. What they import they
          // share: half a minute of loading.
          isolate: false,
          maxWorkers: 2,
          ...patient,
        },
      },
      {
        // Mostly waits, so it runs beside the browser tests: see run.mjs.
        define,
        test: {
          ...common,
          name: 'unattended',
          globalSetup,
          include: ['test/unattended/*.test.ts'],
          ...patient,
          testTimeout: limit(240_000),
        },
      },
    ],
  },
})
