from clerk_emulator.serve.emulator import Emulator as Emulator
