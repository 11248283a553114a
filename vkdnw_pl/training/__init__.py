"""Training of one network: recipe parts (schedule, mixup, distillation, parameter groups) and the module that uses them."""
