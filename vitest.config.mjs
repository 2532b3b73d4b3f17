import { defineConfig } from 'vitest/config'

const common = {
  environment: 'node',
  // See esbuild.config.mjs.
  alias: { 'workbox-window': 'workbox-window/build/workbox-window.prod.mjs' },
}

/** The sources explain their errors, as the development build does. */
const define = { DEVELOPMENT: 'true' }

export default defineConfig({
  test: {
    maxWorkers: '100%',
    projects: [
      {
        define,
        test: {
          ...common,
          name: 'unit',
          include: ['test/*.test.ts'],
          exclude: [
            'test/build.test.ts',
            'test/cli.test.ts',
            'test/doctor.test.ts',
            'test/vite-pwa.test.ts',
          ],
        },
      },
      {
        // What needs dist/.
        define,
        test: {
          ...common,
          name: 'build',
          include: [
            'test/build.test.ts',
            'test/cli.test.ts',
            'test/doctor.test.ts',
            'test/vite-pwa.test.ts',
          ],
          // Each brings dist/ up to date first.
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        define,
        test: {
          ...common,
          name: 'browser',
          include: ['test/browser/*.test.ts'],
          // Each file has servers and a browser of its own, so two can run side by side.
          maxWorkers: 2,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        // Mostly waits, so it runs beside the browser tests: see run.mjs.
        define,
        test: {
          ...common,
          name: 'unattended',
          include: ['test/unattended/*.test.ts'],
          testTimeout: 240_000,
        },
      },
    ],
  },
})
