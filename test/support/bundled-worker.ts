import { fileURLToPath } from 'node:url'
import * as esbuild from 'esbuild'
import { common } from '../../esbuild.config.mjs'

/** A worker script with its imports in it, as the bundler of an app makes it. */
export const bundleWorker = async (
  source: string,
  format: 'iife' | 'esm' = 'iife',
): Promise<string> => {
  const { outputFiles = [] } = await esbuild.build({
    ...(common as esbuild.BuildOptions),
    // dist/ has been through it.
    alias: {},
    stdin: {
      contents: source,
      loader: 'ts',
      resolveDir: fileURLToPath(new URL('../..', import.meta.url)),
    },
    format,
    define: { 'process.env.NODE_ENV': '"production"' },
    write: false,
  })
  return outputFiles[0]!.text
}
